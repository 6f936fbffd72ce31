//! The map of CONTRIBUTING.md: which room may import from which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::modules::Arrow;

const ARROW: &str = "──►";

/// For each room, in the order of the map, the rooms that it imports from.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) rooms: Vec<(String, BTreeSet<String>)>,
}

impl Map {
    /// Reads the first block behind the title `## The map`: a line a room, `cli ──► export, serve`.
    pub(crate) fn read(document: &str) -> Self {
        let section = document.split("\n## The map\n").nth(1).expect("a section \"The map\"");
        let block = section.split("```text\n").nth(1).and_then(|rest| rest.split("\n```").next());
        let rooms = block.expect("a block of text in \"The map\"").lines().map(|line| {
            let (room, targets) = line.split_once(ARROW).unwrap_or((line, ""));
            let targets = targets.split(',').map(|target| target.trim().to_owned());
            (room.trim().to_owned(), targets.filter(|target| !target.is_empty()).collect())
        });
        Self { rooms: rooms.collect() }
    }

    /// Everything in which the code and the map differ; nothing if the map is true.
    ///
    /// - `arrows`: between rooms, with the imports that make them.
    pub(crate) fn differences(&self, arrows: &BTreeMap<(String, String), Vec<Arrow>>) -> Vec<String> {
        let mut found = Vec::new();
        for ((from, to), imports) in arrows {
            let drawn = self.rooms.iter().any(|(room, targets)| room == from && targets.contains(to));
            if !drawn {
                found.push(format!("{from} {ARROW} {to} is not on the map:"));
                // The first place of each name in each file is enough.
                let mut seen = BTreeSet::new();
                let first = imports.iter().filter(|arrow| seen.insert((&arrow.from, &arrow.name)));
                found.extend(first.map(|arrow| {
                    format!("    {}:{} imports {}", arrow.from.display(), arrow.line, arrow.name)
                }));
            }
        }
        for (index, (room, targets)) in self.rooms.iter().enumerate() {
            for target in targets {
                if !arrows.contains_key(&(room.clone(), target.clone())) {
                    found.push(format!("{room} {ARROW} {target} is on the map and not in the code"));
                }
                if !self.rooms[index + 1..].iter().any(|(lower, _)| lower == target) {
                    found.push(format!("{room} {ARROW} {target} does not lead down the map"));
                }
            }
        }
        found
    }
}

/// The arrows between two rooms.
pub(crate) fn between_rooms(
    arrows: &BTreeSet<Arrow>,
    room: &dyn Fn(&Path) -> String,
) -> BTreeMap<(String, String), Vec<Arrow>> {
    let mut between: BTreeMap<_, Vec<Arrow>> = BTreeMap::new();
    for arrow in arrows {
        let ends = (room(&arrow.from), room(&arrow.to));
        if ends.0 != ends.1 {
            between.entry(ends).or_default().push(arrow.clone());
        }
    }
    between
}
