//! The modules of packages, what each defines and imports, and which file a path leads to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::tokens::{Token, tokens};

/// A package or program: the name by which others import it, and the file that is its root.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

/// A file imports something that another one defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) name: String,
    /// Where in `from`; from 1.
    pub(crate) line: usize,
}

#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    children: HashMap<String, usize>,
    defined: HashSet<String>,
    /// Names that `use` brings, and what they stand for.
    imports: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    uses: Vec<Use>,
    /// Paths in the code, and where they stand.
    paths: Vec<(Vec<String>, usize)>,
    /// Words of the code itself: what a re-export brings is used only if it is among them.
    words: HashSet<String>,
}

#[derive(Debug)]
struct Use {
    path: Vec<String>,
    /// `None` for `*`.
    local: Option<String>,
    public: bool,
    line: usize,
}

/// All modules of all packages.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    modules: Vec<Module>,
    roots: HashMap<String, usize>,
}

/// What a path leads to.
enum Found {
    Module(usize),
    /// The module that defines it.
    Item(usize, String),
}

const KEYWORDS: &[&str] = &[
    "pub", "fn", "impl", "mod", "use", "struct", "enum", "trait", "type", "const", "static", "unsafe",
    "async", "extern", "union", "let",
];
const DEFINING: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "union"];

impl Modules {
    /// Reads the files of `roots`, following `mod`; what is compiled for tests alone is left out.
    ///
    /// - `read`: what a file says, or nothing if there is none.
    pub(crate) fn read(roots: &[Root], read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut all = Self::default();
        for root in roots {
            let folder = root.file.parent().unwrap_or(Path::new("")).to_owned();
            let module = all.file(None, root.file.clone(), &folder, read);
            all.roots.insert(root.name.clone(), module);
        }
        all
    }

    /// Every import between two files.
    pub(crate) fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (at, module) in self.modules.iter().enumerate() {
            let mut add = |path: &[String], line: usize, glob: bool| {
                let (to, name) = match self.resolve(at, path, 0) {
                    Some(Found::Item(to, name)) => (to, name),
                    Some(Found::Module(to)) if glob => (to, "*".to_owned()),
                    // The paths that begin with it say what of it is used.
                    Some(Found::Module(_)) | None => return,
                };
                let (from, to) = (module.file.clone(), self.modules[to].file.clone());
                if from != to {
                    arrows.insert(Arrow { from, to, name, line });
                }
            };
            for import in &module.uses {
                let handed_on =
                    import.public && import.local.as_ref().is_none_or(|name| !module.words.contains(name));
                if !handed_on {
                    add(&import.path, import.line, import.local.is_none());
                }
            }
            for (path, line) in &module.paths {
                add(path, *line, false);
            }
        }
        arrows
    }

    /// - `folder`: where the files of its modules are.
    fn file(
        &mut self,
        parent: Option<usize>,
        file: PathBuf,
        folder: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> usize {
        let source = read(&file).unwrap_or_else(|| panic!("{} cannot be read", file.display()));
        let module = self.modules.len();
        self.modules.push(Module { file, parent, ..Module::default() });
        self.code(module, &tokens(&source), folder, read);
        module
    }

    /// Reads the tokens of one module.
    fn code(&mut self, at: usize, code: &[Token<'_>], folder: &Path, read: &dyn Fn(&Path) -> Option<String>) {
        let word = |i: usize| code.get(i).filter(|token| token.is_word()).map(|token| token.text);
        let mark = |i: usize| code.get(i).map_or("", |token| token.text);
        let (mut i, mut depth) = (0, 0_usize);
        while i < code.len() {
            let token = code[i];
            match token.text {
                "#" if mark(i + 1) == "[" => {
                    let end = closing(code, i + 1);
                    let attribute: String = code[i + 2..end].iter().map(|token| token.text).collect();
                    i = end + 1;
                    if attribute == "cfg(test)" {
                        i = after_item(code, i);
                    }
                    continue;
                }
                "mod" if word(i + 1).is_some() && matches!(mark(i + 2), ";" | "{") => {
                    let name = code[i + 1].text;
                    let inner = folder.join(name);
                    let (child, end) = if mark(i + 2) == "{" {
                        let end = closing(code, i + 2);
                        let file = self.modules[at].file.clone();
                        self.modules.push(Module { file, parent: Some(at), ..Module::default() });
                        let child = self.modules.len() - 1;
                        self.code(child, &code[i + 3..end], &inner, read);
                        (child, end)
                    } else {
                        let beside = folder.join(format!("{name}.rs"));
                        let file = if read(&beside).is_some() { beside } else { inner.join("mod.rs") };
                        (self.file(Some(at), file, &inner, read), i + 2)
                    };
                    self.modules[at].children.insert(name.to_owned(), child);
                    i = end + 1;
                    continue;
                }
                "use" if mark(i + 1) != "<" => {
                    let end = i + code[i..].iter().position(|t| t.text == ";").unwrap_or(code.len() - i);
                    let public = i > 0 && matches!(code[i - 1].text, "pub" | ")");
                    self.leaves(at, &code[i + 1..end], &mut Vec::new(), public);
                    i = end + 1;
                    continue;
                }
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && DEFINING.contains(&token.text) {
                self.modules[at].defined.extend(word(i + 1).map(str::to_owned));
            }
            if token.text == "macro_rules" {
                self.modules[at].defined.extend(word(i + 2).map(str::to_owned));
            }
            if !token.is_word() || (i > 0 && matches!(code[i - 1].text, "." | "::")) {
                i += 1;
                continue;
            }
            self.modules[at].words.insert(token.text.to_owned());
            let mut path = vec![token.text.to_owned()];
            while mark(i + 1) == "::"
                && let Some(next) = word(i + 2)
            {
                path.push(next.to_owned());
                i += 2;
            }
            if path.len() > 1 {
                self.modules[at].paths.push((path, token.line));
            }
            i += 1;
        }
    }

    /// The names that a tree of imports brings: `a::{b as c, d::*}`.
    fn leaves(&mut self, at: usize, tree: &[Token<'_>], before: &mut Vec<String>, public: bool) {
        let depth = before.len();
        let mut i = 0;
        while i < tree.len() {
            match tree[i].text {
                "::" => i += 1,
                "{" => {
                    let end = closing(tree, i);
                    self.leaves(at, &tree[i + 1..end], before, public);
                    i = end + 1;
                }
                "," => {
                    before.truncate(depth);
                    i += 1;
                }
                "*" => {
                    let path = before.clone();
                    self.modules[at].globs.push(path.clone());
                    self.modules[at].uses.push(Use { path, local: None, public, line: tree[i].line });
                    i += 1;
                }
                name => {
                    before.push(name.to_owned());
                    let next = tree.get(i + 1).map_or(",", |token| token.text);
                    let line = tree[i].line;
                    i += 1;
                    if next == "::" {
                        continue;
                    }
                    let mut path = before.clone();
                    if name == "self" && path.len() > 1 {
                        path.pop();
                    }
                    let mut local = path.last().cloned();
                    if next == "as" {
                        local = tree.get(i + 1).map(|token| token.text.to_owned());
                        i += 2;
                    }
                    if let Some(local) = &local {
                        self.modules[at].imports.insert(local.clone(), path.clone());
                    }
                    self.modules[at].uses.push(Use { path, local, public, line });
                }
            }
        }
        before.truncate(depth);
    }

    /// Where `path`, written in module `at`, leads; nothing outside of the packages read.
    fn resolve(&self, at: usize, path: &[String], hops: usize) -> Option<Found> {
        let module = &self.modules[at];
        let (first, rest) = path.split_first()?;
        if hops > 16 {
            return None;
        }
        match first.as_str() {
            "crate" => {
                let mut root = at;
                while let Some(parent) = self.modules[root].parent {
                    root = parent;
                }
                self.walk(root, rest, hops)
            }
            "self" | "super" => self.walk(at, path, hops),
            name if module.children.contains_key(name) => self.walk(at, path, hops),
            name => match module.imports.get(name).filter(|import| import.first() != Some(first)) {
                Some(_) => self.walk(at, path, hops),
                None => match self.roots.get(name) {
                    Some(&root) => self.walk(root, rest, hops),
                    None if module.defined.contains(name) => Some(Found::Item(at, name.to_owned())),
                    None => None,
                },
            },
        }
    }

    /// Where `path` leads from module `at`, of which it names something.
    fn walk(&self, at: usize, path: &[String], hops: usize) -> Option<Found> {
        let module = &self.modules[at];
        let Some((first, rest)) = path.split_first() else { return Some(Found::Module(at)) };
        let imported = module.imports.get(first);
        let child = module.children.get(first);
        match (first.as_str(), child, imported) {
            ("self", ..) => self.walk(at, rest, hops),
            ("super", ..) => self.walk(module.parent?, rest, hops),
            // `mod verify; pub use verify::verify;`: the module has a path behind it, the function none.
            (_, Some(&child), imported) if !rest.is_empty() || imported.is_none() => {
                self.walk(child, rest, hops)
            }
            (_, _, Some(import)) => {
                let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
                self.resolve(at, &whole, hops + 1)
            }
            (name, ..) if module.defined.contains(name) => Some(Found::Item(at, name.to_owned())),
            (name, ..) => {
                let through = module.globs.iter().find_map(|glob| match self.resolve(at, glob, hops + 1) {
                    Some(Found::Module(other)) if self.modules[other].defined.contains(name) => {
                        Some(Found::Item(other, name.to_owned()))
                    }
                    _ => None,
                });
                // What a macro defines is nowhere to be seen.
                through.or_else(|| Some(Found::Item(at, name.to_owned())))
            }
        }
    }
}

/// Where the bracket that opens at `open` closes.
fn closing(code: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in code.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    code.len()
}

/// The place behind the item (or the field, or the statement) at `i`, whose other attributes come first.
fn after_item(code: &[Token<'_>], mut i: usize) -> usize {
    while code.get(i).is_some_and(|token| token.text == "#") {
        i = closing(code, i + 1) + 1;
    }
    let first = code.get(i).map_or("", |token| token.text);
    while let Some(token) = code.get(i) {
        match token.text {
            ";" => return i + 1,
            "," if !KEYWORDS.contains(&first) => return i + 1,
            "{" if first != "use" => return closing(code, i) + 1,
            "(" | "[" | "{" => i = closing(code, i),
            "}" => return i,
            _ => {}
        }
        i += 1;
    }
    i
}

/// The arrows by the pair of files that they join, with the names that are imported.
pub(crate) fn joined(arrows: &BTreeSet<Arrow>) -> BTreeMap<(&Path, &Path), BTreeSet<&str>> {
    let mut joined: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for arrow in arrows {
        joined.entry((arrow.from.as_path(), arrow.to.as_path())).or_default().insert(&arrow.name);
    }
    joined
}
