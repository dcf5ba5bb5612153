//! The names and the lines of a module's code, where its compiler left them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Result;
use gimli::{DwarfSections, EndianSlice, LittleEndian};
use wasmparser_of_encoder::{KnownCustom, Name, Parser, Payload};

type Slice<'m> = EndianSlice<'m, LittleEndian>;

/// What a module says of its code.
#[derive(Debug, Default)]
pub(super) struct DebugInfo {
    names: BTreeMap<u32, String>,
    /// By address.
    rows: Vec<Row>,
    files: Vec<String>,
}

/// From this address on, code is of this line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    address: u64,
    /// The end of a sequence comes before the start of the next at the same address.
    place: Option<(usize, u32)>,
}

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
                        let named = map.into_iter().flatten();
                        info.names.extend(named.map(|naming| (naming.index, demangled(naming.name))));
                    }
                }
            } else {
                sections.insert(section.name(), section.data());
            }
        }
        if let Err(error) = info.read_lines(&sections) {
            tracing::warn!("the rest of the debug information can't be read: {error}");
        }
        info.rows.sort_unstable();
        info
    }

    /// The name of a function.
    pub(super) fn name(&self, function: u32) -> Option<&str> {
        self.names.get(&function).map(String::as_str)
    }

    /// The file and the line of the code at an address.
    pub(super) fn place(&self, address: u64) -> Option<(&str, u32)> {
        let after = self.rows.partition_point(|row| row.address <= address);
        let (file, line) = self.rows.get(after.checked_sub(1)?)?.place?;
        Some((self.files.get(file)?, line))
    }

    /// The addresses within code at which a line begins.
    pub(super) fn lines(&self, code: &std::ops::Range<u64>) -> impl Iterator<Item = (u64, &str, u32)> {
        let first = self.rows.partition_point(|row| row.address < code.start);
        let rows = self.rows[first..].iter().take_while({
            let end = code.end;
            move |row| row.address < end
        });
        rows.filter_map(|row| {
            let (file, line) = row.place?;
            Some((row.address, self.files.get(file)?.as_str(), line))
        })
    }

    fn read_lines(&mut self, sections: &BTreeMap<&str, &[u8]>) -> Result<(), gimli::Error> {
        let load = |id: gimli::SectionId| Ok(sections.get(id.name()).copied().unwrap_or_default());
        let loaded: DwarfSections<&[u8]> = DwarfSections::load::<_, gimli::Error>(load)?;
        let dwarf = loaded.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let unit = dwarf.unit(header)?;
            let Some(program) = unit.line_program.clone() else { continue };
            let mut rows = program.rows();
            let mut sequence: Vec<Row> = Vec::new();
            while let Some((header, row)) = rows.next_row()? {
                let file = row.file(header).filter(|_| !row.end_sequence());
                let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
                let place = match (file, line) {
                    (Some(file), Some(line)) => {
                        let path = path(&dwarf, &unit, header, file)?;
                        let next = known.len();
                        let number = *known.entry(path).or_insert(next);
                        Some((number, line))
                    }
                    _ => None,
                };
                sequence.push(Row { address: row.address(), place });
                if row.end_sequence() {
                    // What the linker has thrown away lies at 0, where no code can be, or beyond all.
                    let is_kept = sequence.first().is_some_and(|row| row.address > 0);
                    if is_kept { self.rows.append(&mut sequence) } else { sequence.clear() }
                }
            }
        }
        let mut files: Vec<(String, usize)> = known.into_iter().collect();
        files.sort_unstable_by_key(|(_, number)| *number);
        self.files = files.into_iter().map(|(path, _)| path).collect();
        Ok(())
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
    Ok(path)
}

/// A name as it's written in the source.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
