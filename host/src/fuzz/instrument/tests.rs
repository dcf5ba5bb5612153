//! Modules of every shape: rewritten, each does what it did, and notes what it took.

use wasm_encoder::{Component, RawSection};
use wasmtime::{Caller, Config, Engine, Linker, Memory, Module, Store};

use super::instrument;
use super::module::{self, MEMORY, SHOW};
use super::notes::{self, Comparison, LIST};
use super::noting::Noting;

/// A module with a function `run` of two numbers, and what it takes: for two numbers each, the edges.
struct Case {
    name: &'static str,
    text: &'static str,
    takes: &'static [((i32, i32), &'static [usize])],
}

const CASES: [Case; 15] = [
    Case {
        name: "a condition, and no memory",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
            (if (result i32) (local.get 0) (then (i32.const 3)) (else (local.get 1)))))",
        takes: &[((1, 5), &[0, 1]), ((0, 5), &[0, 2])],
    },
    Case {
        name: "a table of targets",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
            (block $c (block $b (block $a (br_table $a $b $c (local.get 0))) (return (i32.const 1))) (return (i32.const 2)))
            (local.get 1)))",
        takes: &[((0, 9), &[0, 1]), ((1, 9), &[0, 2]), ((2, 9), &[0, 3]), ((-1, 9), &[0, 3])],
    },
    Case {
        name: "selects",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
            (select (local.get 0) (local.get 1) (local.get 0))
            (select (result i32) (i32.const 4) (i32.const 8) (local.get 1))
            i32.add))",
        takes: &[((1, 0), &[0, 1, 4]), ((0, 1), &[0, 2, 3])],
    },
    Case {
        name: "a loop",
        text: "(module (func (export \"run\") (param i32 i32) (result i32) (local i32)
            (loop $again
                (local.set 2 (i32.add (local.get 2) (local.get 1)))
                (br_if $again (i32.lt_u (local.get 2) (local.get 0))))
            (local.get 2)))",
        takes: &[((10, 3), &[0, 1, 2]), ((1, 3), &[0, 2])],
    },
    Case {
        name: "a memory of its own",
        text: "(module (memory (export \"memory\") 1) (data (i32.const 8) \"abc\")
            (func (export \"run\") (param i32 i32) (result i32)
                (if (i32.load8_u offset=8 (local.get 0)) (then (i32.store (local.get 1) (i32.const 77))))
                (i32.add (i32.load (local.get 1)) (memory.size))))",
        takes: &[((0, 64), &[0, 1]), ((3, 64), &[0, 2])],
    },
    Case {
        name: "an address outside of the memory",
        text: "(module (memory (export \"memory\") 1)
            (func (export \"run\") (param i32 i32) (result i32)
                (if (local.get 0) (then (return (i32.load (local.get 1)))))
                (i32.const 5)))",
        takes: &[((1, -4), &[0, 1]), ((0, -4), &[0, 2])],
    },
    Case {
        name: "a trap",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
            (if (local.get 0) (then unreachable))
            (i32.div_s (local.get 1) (local.get 0))))",
        takes: &[((1, 1), &[0, 1]), ((0, 1), &[0, 2])],
    },
    Case {
        name: "an imported function, and a global",
        text: "(module (import \"host\" \"seven\" (func $seven (result i32))) (global $seen (mut i32) (i32.const 0))
            (func (export \"run\") (param i32 i32) (result i32)
                (if (i32.eq (call $seven) (local.get 0)) (then (global.set $seen (i32.const 40))))
                (i32.add (global.get $seen) (call $inner)))
            (func $inner (result i32) (i32.const 2)))",
        takes: &[((7, 0), &[0, 1, 3]), ((8, 0), &[0, 2, 3])],
    },
    Case {
        name: "what runs at the start",
        text: "(module (global $ready (mut i32) (i32.const 0)) (start $begin)
            (func (export \"run\") (param i32 i32) (result i32)
                (if (result i32) (global.get $ready) (then (local.get 0)) (else (local.get 1))))
            (func $begin (if (i32.eqz (global.get $ready)) (then (global.set $ready (i32.const 1))))))",
        takes: &[((3, 4), &[0, 1])],
    },
    Case {
        name: "data that is copied later",
        text: "(module (memory (export \"memory\") 1) (data $late \"xyz\")
            (func (export \"run\") (param i32 i32) (result i32)
                (if (local.get 0) (then (memory.init $late (local.get 1) (i32.const 1) (i32.const 2)) (data.drop $late)))
                (i32.load8_u (local.get 1))))",
        takes: &[((1, 9), &[0, 1]), ((0, 9), &[0, 2])],
    },
    Case {
        name: "a tail call",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
                (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
                (return_call $next (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 10))))
            (func $next (param i32 i32) (result i32) (i32.mul (local.get 0) (local.get 1))))",
        takes: &[((0, 6), &[0, 1]), ((4, 6), &[0, 2, 3])],
    },
    Case {
        name: "a block of several values",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
            (block $two (result i32 i32)
                (i32.const 1) (local.get 1)
                (br_if $two (local.get 0))
                drop (i32.const 100))
            i32.sub))",
        takes: &[((1, 30), &[0, 1]), ((0, 30), &[0, 2])],
    },
    Case {
        name: "vectors",
        text: "(module (func (export \"run\") (param i32 i32) (result i32)
            (if (i8x16.all_true (i8x16.splat (local.get 0))) (then (return (i32.const 16))))
            (i32x4.extract_lane 2 (i32x4.add (i32x4.splat (local.get 1)) (v128.const i32x4 1 2 3 4)))))",
        takes: &[((1, 5), &[0, 1]), ((0, 5), &[0, 2])],
    },
    Case {
        name: "functions in a table",
        text: "(module (type $number (func (result i32))) (table 3 funcref) (elem (i32.const 0) $one $two)
            (func (export \"run\") (param i32 i32) (result i32)
                (if (ref.is_null (table.get (local.get 0))) (then (return (i32.const -1))))
                (call_indirect (type $number) (local.get 0)))
            (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2)))",
        takes: &[((0, 0), &[0, 2, 3]), ((1, 0), &[0, 2, 4]), ((2, 0), &[0, 1])],
    },
    Case {
        name: "two memories",
        text: "(module (memory (export \"memory\") 1) (memory $other 1)
            (func (export \"run\") (param i32 i32) (result i32)
                (i32.store $other (local.get 1) (i32.const 9))
                (if (i32.load (local.get 1)) (then (return (i32.const 0))))
                (i32.load $other (local.get 0))))",
        takes: &[((16, 16), &[0, 2]), ((8, 16), &[0, 2])],
    },
];

/// A function that looks like memcmp(3), called with addresses that may lie outside of the memory.
const COMPARES: &str =
    "(module (memory (export \"memory\") 1) (data (i32.const 100) \"secret\") (data (i32.const 200) \"sacred\")
    (func (export \"run\") (param i32 i32) (result i32)
        (if (i64.eq (i64.extend_i32_u (local.get 0)) (i64.const 100)) (then (nop)))
        (call $compares (local.get 0) (local.get 1) (i32.const 6)))
    (func $compares (param i32 i32 i32) (result i32) (local.get 2)))";

/// What a module did: its result, or how it trapped; its own memory; and what it noted.
struct Done {
    result: Result<i32, String>,
    memory: Option<Vec<u8>>,
    notes: Vec<u8>,
}

fn engine() -> Engine {
    Engine::new(Config::new().wasm_multi_memory(true)).expect("this machine has an engine")
}

/// Runs a module for some numbers, one pair after the other. Where it notes something, its notes are cleared before each.
fn run(engine: &Engine, module: &[u8], numbers: &[(i32, i32)]) -> Vec<Done> {
    let module = Module::new(engine, module).expect("a sound module");
    let mut linker: Linker<()> = Linker::new(engine);
    linker.func_wrap("host", "seven", |_: Caller<'_, ()>| 7).expect("a new name");
    let mut store = Store::new(engine, ());
    let instance = linker.instantiate(&mut store, &module).expect("an instance");
    let show = instance.get_typed_func::<(), i32>(&mut store, SHOW).ok();
    let run = instance.get_typed_func::<(i32, i32), i32>(&mut store, "run").expect("a function");
    let mut done = Vec::new();
    for pair in numbers {
        if let Some(show) = &show {
            assert_eq!(show.call(&mut store, ()).expect("it never traps"), 0);
        }
        let result = run.call(&mut store, *pair).map_err(|error| error.root_cause().to_string());
        let mut memory = |name: &str| instance.get_memory(&mut store, name);
        let (own, noted) = (memory("memory"), memory(MEMORY));
        let bytes = |memory: Memory| memory.data(&store).to_vec();
        let notes = noted.map(|noted| bytes(noted)[LIST as usize..].to_vec()).unwrap_or_default();
        done.push(Done { result, memory: own.map(bytes), notes });
    }
    done
}

fn rewritten(module: &[u8], noting: Noting) -> Vec<u8> {
    module::instrument(module, noting).expect("a sound module").expect("it has branches")
}

#[test]
fn every_shape_of_module_does_what_it_did_and_notes_what_it_took() {
    let engine = engine();
    for Case { name, text, takes } in CASES {
        let original = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let numbers: Vec<(i32, i32)> = takes.iter().map(|(numbers, _)| *numbers).collect();
        let before = run(&engine, &original, &numbers);
        for noting in [Noting::Edges, Noting::Comparisons] {
            let after = run(&engine, &rewritten(&original, noting), &numbers);
            for (((numbers, taken), before), after) in takes.iter().zip(&before).zip(&after) {
                assert_eq!(before.result, after.result, "{name}: {numbers:?}");
                assert_eq!(before.memory, after.memory, "{name}: {numbers:?}");
                let edges = notes::edges(&after.notes).iter().enumerate();
                let edges: Vec<usize> = edges.filter(|(_, taken)| **taken == 1).map(|(edge, _)| edge).collect();
                assert_eq!(edges, *taken, "{name}: {numbers:?}");
            }
        }
    }
}

#[test]
fn what_is_compared_is_noted_and_nothing_outside_of_the_memory_is_read() {
    let engine = engine();
    let original = wat::parse_str(COMPARES).expect("a sound text");
    let numbers = [(100, 200), (100, -1), (i32::MAX, 200), (65_530, 200)];
    let before = run(&engine, &original, &numbers);
    let after = run(&engine, &rewritten(&original, Noting::Comparisons), &numbers);
    let noted: Vec<Vec<Comparison>> = after.iter().map(|done| notes::comparisons(&done.notes)).collect();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.result, &before.memory), (&after.result, &after.memory));
    }
    assert_eq!(noted[0], [Comparison::Texts(b"secret".to_vec(), b"sacred".to_vec())]);
    assert_eq!(noted[1], []);
    assert_eq!(noted[2], [Comparison::Numbers(i32::MAX as u64, 100)]);
    assert_eq!(noted[3], [Comparison::Numbers(65_530, 100)]);
}

#[test]
fn what_has_no_branch_has_nothing_to_note() {
    let text = "(module (func (export \"run\") (param i32 i32) (result i32) (local.get 0)))";
    let module = wat::parse_str(text).expect("a sound text");
    assert!(module::instrument(&module, Noting::Edges).expect("a sound module").is_none());
    let nothing = wat::parse_str("(module)").expect("a sound text");
    assert!(module::instrument(&nothing, Noting::Edges).expect("a sound module").is_none());
    let mut component = Component::new();
    component.section(&RawSection { id: 1, data: &module });
    let component = component.finish();
    let instrumented = instrument(&component, Noting::Edges).expect("a sound component");
    assert!(instrumented.modules.is_empty() && instrumented.component == component);
}
