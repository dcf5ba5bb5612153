//! The program; everything is in the library.

fn main() -> ! {
    mountgate::cli::program::main()
}
