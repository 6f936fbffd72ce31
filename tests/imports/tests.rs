//! The reader itself, on small sources made up here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::circles::{circles, describe};
use super::map::{Map, between_rooms};
use super::modules::{Arrow, Modules, Root};
use super::tokens::tokens;

/// The arrows of a package `house` whose root is `lib.rs`.
fn arrows(files: &[(&str, &str)]) -> BTreeSet<Arrow> {
    let roots = [Root { name: "house".to_owned(), file: PathBuf::from("lib.rs") }];
    read(&roots, files)
}

fn read(roots: &[Root], files: &[(&str, &str)]) -> BTreeSet<Arrow> {
    let files: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
    Modules::read(roots, &|path| files.get(path).map(|&text| text.to_owned())).arrows()
}

/// `from -> to: name` of each arrow.
fn lines(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    let line = |a: &Arrow| format!("{} -> {}: {}", a.from.display(), a.to.display(), a.name);
    arrows.iter().map(line).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn strings_comments_and_lifetimes_are_no_code() {
    let code = r##"
        // crate::a
        /* crate::b /* crate::c */ crate::d */
        let x = "crate::e \" crate::f"; let y = r#"crate::g " crate::h"#; let z = b'"';
        fn f<'a>(x: &'a str, c: char) -> char { '\'' } crate::i
    "##;
    let words: Vec<&str> = tokens(code).iter().filter(|t| t.is_word()).map(|t| t.text).collect();
    let expected =
        ["let", "x", "let", "y", "let", "z", "fn", "f", "x", "str", "c", "char", "char", "crate", "i"];
    assert_eq!(words, expected);
    assert_eq!(tokens(code).last().map(|token| token.line), Some(5));
}

#[test]
fn trees_of_imports_and_paths_in_the_code_are_arrows() {
    let found = arrows(&[
        ("lib.rs", "pub mod a; pub mod b; pub mod c;"),
        (
            "a.rs",
            "use crate::{b::{self, One, inner::Two as Other}, c::*};
             fn f() -> b::Three { super::c::four(\"crate::c::five\") }",
        ),
        ("b.rs", "pub mod inner; pub struct One; pub struct Three;"),
        ("b/inner.rs", "pub struct Two; use super::One; fn g() { self::h() } fn h() {}"),
        ("c.rs", "pub fn four() {}"),
    ]);
    assert_eq!(
        lines(&found),
        [
            "a.rs -> b.rs: One",
            "a.rs -> b.rs: Three",
            "a.rs -> b/inner.rs: Two",
            "a.rs -> c.rs: *",
            "a.rs -> c.rs: four",
            "b/inner.rs -> b.rs: One"
        ]
    );
}

#[test]
fn what_is_handed_on_belongs_to_the_file_that_defines_it() {
    let found = arrows(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::{Deep, verify, verify::Report};"),
        ("b/mod.rs", "mod verify; pub use verify::{Deep, verify};"),
        ("b/verify.rs", "pub use self::deep::Deep; mod deep; pub fn verify() {} pub struct Report;"),
        ("b/verify/deep.rs", "pub struct Deep;"),
    ]);
    assert_eq!(
        lines(&found),
        ["a.rs -> b/verify.rs: Report", "a.rs -> b/verify.rs: verify", "a.rs -> b/verify/deep.rs: Deep"]
    );
}

#[test]
fn a_parent_that_only_hands_on_is_in_no_circle_and_one_that_uses_its_child_is() {
    let child = ("room/child.rs", "use super::Shared; pub struct Own;");
    let only_hands_on = [
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod child; pub use child::Own; pub struct Shared;"),
        child,
    ];
    assert!(circles(&arrows(&only_hands_on)).is_empty());
    let uses_it = [
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod child; pub use child::Own; pub struct Shared { own: Own }"),
        child,
    ];
    assert_eq!(circles(&arrows(&uses_it)).len(), 1);
}

#[test]
fn what_only_tests_import_is_left_out() {
    let found = arrows(&[
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod tests;"),
        (
            "a.rs",
            "#[cfg(test)] use crate::b::One;
             struct S { #[cfg(test)] seen: crate::b::One, kept: u8 }
             #[cfg(test)] #[allow(dead_code)] fn f<A, B>(a: A, b: B) { crate::b::two() }
             fn g() { #[cfg(test)] { crate::b::two() } }
             #[cfg(test)] mod tests { use crate::b::*; }
             use crate::b::Three;",
        ),
        ("b.rs", "pub struct One; pub fn two() {} pub struct Three;"),
    ]);
    assert_eq!(lines(&found), ["a.rs -> b.rs: Three"]);
}

#[test]
fn a_circle_is_found_and_described() {
    let found = arrows(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A; pub fn also() {}"),
        ("b.rs", "pub struct B(crate::c::C);"),
        ("c.rs", "use crate::a::{A, also}; pub struct C;"),
        ("d.rs", "use crate::a::A;"),
    ]);
    let circles = circles(&found);
    assert_eq!(
        describe(&circles, &found),
        "circle 1 among 3 files\n  a.rs -> b.rs -> c.rs -> a.rs\n      B of b.rs\n      C of c.rs\n      A, also of \
         a.rs\n"
    );
}

#[test]
fn circles_that_share_a_file_are_one() {
    let found = arrows(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::{b::B, c::C}; pub struct A;"),
        ("b.rs", "use crate::a::A; pub struct B;"),
        ("c.rs", "use crate::a::A; pub struct C;"),
    ]);
    let circles = circles(&found);
    assert_eq!(circles.iter().map(|c| (c.files.len(), c.paths.len())).collect::<Vec<_>>(), [(3, 2)]);
}

#[test]
fn an_arrow_that_the_map_lacks_or_has_in_excess_or_upwards_is_found() {
    let roots = [
        Root { name: "house".to_owned(), file: PathBuf::from("src/lib.rs") },
        Root { name: "house_cellar".to_owned(), file: PathBuf::from("src/cellar/lib.rs") },
    ];
    let files = [
        ("src/lib.rs", "mod roof; mod kitchen; pub use house_cellar::Wine;"),
        ("src/roof.rs", "use crate::kitchen::cook;"),
        ("src/kitchen/mod.rs", "pub fn cook() { crate::Wine }"),
        ("src/cellar/lib.rs", "pub struct Wine;"),
    ];
    let rooms = super::rooms(&roots);
    let between = between_rooms(&read(&roots, &files), &rooms);
    let map = |block: &str| Map::read(&format!("# A\n\n## The map\n\nText.\n\n```text\n{block}\n```\n"));
    let held = map("roof ──► kitchen\nkitchen ──► house-cellar\nhouse-cellar").differences(&between);
    assert_eq!(held, [""; 0]);
    let lacks = map("roof ──► kitchen\nkitchen\nhouse-cellar").differences(&between);
    assert_eq!(
        lacks,
        ["kitchen ──► house-cellar is not on the map:", "    src/kitchen/mod.rs:1 imports Wine"]
    );
    let excess = map("roof ──► kitchen, house-cellar\nkitchen ──► house-cellar\nhouse-cellar");
    assert_eq!(excess.differences(&between), ["roof ──► house-cellar is on the map and not in the code"]);
    let upwards = map("kitchen ──► house-cellar\nroof ──► kitchen\nhouse-cellar").differences(&between);
    assert_eq!(upwards, ["roof ──► kitchen does not lead down the map"]);
}
