//! The names and the lines of a module's code, where its compiler left them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use gimli::{DwarfSections, EndianSlice, LittleEndian};
use wasmparser_of_encoder::{KnownCustom, Name, Parser, Payload};

use crate::model::paths::lexical;

type Slice<'m> = EndianSlice<'m, LittleEndian>;

/// What a module says of its code.
#[derive(Debug, Default)]
pub(super) struct DebugInfo {
    /// As the compiler has made them.
    names: BTreeMap<u32, String>,
    /// By address.
    rows: Vec<Row>,
    files: Vec<String>,
    known: BTreeMap<String, usize>,
}

/// More rows than this aren't read: a byte can stand for one.
const MAX_ROWS: usize = 4_000_000;
/// A longer path or name isn't used.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 1000;

/// From this address on, code is of this line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    address: u64,
    place: Option<(usize, u32, u32)>,
}

/// A place in a source: its file, line and column. The column of code whose compiler says none is 0.
pub(super) type Place<'i> = (&'i str, u32, u32);

impl DebugInfo {
    /// Reads the name section and the line tables of DWARF. What can't be read is left out.
    pub(super) fn of(module: &[u8]) -> Self {
        let mut info = Self::default();
        let mut sections: BTreeMap<&str, &[u8]> = BTreeMap::new();
        for payload in Parser::new(0).parse_all(module) {
            let Ok(Payload::CustomSection(section)) = payload else { continue };
            if let KnownCustom::Name(reader) = section.as_known() {
                for part in reader.into_iter().flatten() {
                    if let Name::Function(map) = part {
                        let named = map.into_iter().flatten().filter(|naming| naming.name.len() <= MAX_PATH);
                        info.names.extend(named.map(|naming| (naming.index, naming.name.to_owned())));
                    }
                }
            } else {
                sections.insert(section.name(), section.data());
            }
        }
        if let Err(error) = info.read_lines(&sections) {
            tracing::warn!("the rest of the debug information can't be read: {error}");
        }
        // The end of a sequence comes before the start of the next. Of several rows at one address the last one holds.
        info.rows.sort_by_key(|row| (row.address, row.place.is_some()));
        info
    }

    /// The name of a function.
    pub(super) fn name(&self, function: u32) -> Option<String> {
        self.names.get(&function).map(|name| demangled(name))
    }

    /// The place of the code at an address.
    pub(super) fn place(&self, address: u64) -> Option<Place<'_>> {
        let after = self.rows.partition_point(|row| row.address <= address);
        let (file, line, column) = self.rows.get(after.checked_sub(1)?)?.place?;
        Some((self.files.get(file)?, line, column))
    }

    /// The addresses within code at which a line begins.
    pub(super) fn lines(&self, code: &std::ops::Range<u64>) -> impl Iterator<Item = (u64, &str, u32)> {
        let first = self.rows.partition_point(|row| row.address < code.start);
        let rows = self.rows[first..].iter().take_while({
            let end = code.end;
            move |row| row.address < end
        });
        rows.filter_map(|row| {
            let (file, line, _) = row.place?;
            Some((row.address, self.files.get(file)?.as_str(), line))
        })
    }

    fn read_lines(&mut self, sections: &BTreeMap<&str, &[u8]>) -> Result<(), gimli::Error> {
        let load = |id: gimli::SectionId| Ok(sections.get(id.name()).copied().unwrap_or_default());
        let loaded: DwarfSections<&[u8]> = DwarfSections::load::<_, gimli::Error>(load)?;
        let dwarf = loaded.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut units = dwarf.units();
        // Units may share a line table.
        let mut read = BTreeSet::new();
        while let Some(header) = units.next()? {
            let Ok(unit) = dwarf.unit(header) else { continue };
            let Some(program) = unit.line_program.clone() else { continue };
            if read.insert(program.header().offset().0)
                && let Err(error) = self.read_program(&dwarf, &unit, program)
            {
                tracing::warn!("a line table can't be read: {error}");
            }
            if self.rows.len() > MAX_ROWS {
                tracing::warn!("the debug information has too many lines: the rest isn't read");
                break;
            }
        }
        Ok(())
    }

    fn read_program<'m>(
        &mut self,
        dwarf: &gimli::Dwarf<Slice<'m>>,
        unit: &gimli::Unit<Slice<'m>>,
        program: gimli::IncompleteLineProgram<Slice<'m>>,
    ) -> Result<(), gimli::Error> {
        let mut rows = program.rows();
        let mut sequence: Vec<Row> = Vec::new();
        let mut numbers: BTreeMap<u64, Option<usize>> = BTreeMap::new();
        while let Some((header, row)) = rows.next_row()? {
            let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
            let number = match numbers.get(&row.file_index()) {
                Some(known) => *known,
                None => {
                    let path = row.file(header).map(|file| path(dwarf, unit, header, file)).transpose()?;
                    let number = path.filter(|path| path.len() <= MAX_PATH).map(|path| self.number(path));
                    numbers.insert(row.file_index(), number);
                    number
                }
            };
            let column = match row.column() {
                gimli::ColumnType::LeftEdge => 0,
                gimli::ColumnType::Column(column) => u32::try_from(column.get()).unwrap_or(u32::MAX),
            };
            let place = number.zip(line).filter(|_| !row.end_sequence());
            let place = place.map(|(file, line)| (file, line, column));
            sequence.push(Row { address: row.address(), place });
            if self.rows.len() + sequence.len() > MAX_ROWS {
                break;
            }
            if row.end_sequence() {
                // What the linker has thrown away lies at 0, where no code can be, or beyond all.
                let is_kept = sequence.first().is_some_and(|row| row.address > 0);
                if is_kept { self.rows.append(&mut sequence) } else { sequence.clear() }
            }
        }
        Ok(())
    }

    fn number(&mut self, path: String) -> usize {
        let next = self.files.len();
        let number = *self.known.entry(path.clone()).or_insert(next);
        if number == next {
            self.files.push(path);
        }
        number
    }
}

/// The path of a file of a line table.
fn path<'m>(
    dwarf: &gimli::Dwarf<Slice<'m>>,
    unit: &gimli::Unit<Slice<'m>>,
    header: &gimli::LineProgramHeader<Slice<'m>>,
    file: &gimli::FileEntry<Slice<'m>>,
) -> Result<String, gimli::Error> {
    let text =
        |value| -> Result<String, gimli::Error> { Ok(dwarf.attr_string(unit, value)?.to_string_lossy().into_owned()) };
    let mut path = unit.comp_dir.map_or(Cow::default(), |directory| directory.to_string_lossy()).into_owned();
    let directory = file.directory(header).map(text).transpose()?;
    for part in directory.into_iter().chain([text(file.path_name())?]) {
        path = if part.starts_with('/') || path.is_empty() { part } else { format!("{path}/{part}") };
    }
    // One file has one name, and none that leads out of a folder by `..`.
    Ok(if path.starts_with('/') { lexical(&path) } else { path })
}

/// A name as it's written in the source. A short one may stand for a very long one.
fn demangled(name: &str) -> String {
    struct Short(String);
    impl std::fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.push_str(text);
            if self.0.len() > MAX_NAME { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut short = Short(String::new());
    match std::fmt::write(&mut short, format_args!("{:#}", rustc_demangle::demangle(name))) {
        Ok(()) => short.0,
        Err(_) => short.0.chars().take(MAX_NAME).chain(['…']).collect(),
    }
}
