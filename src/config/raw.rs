//! A YAML file as it was typed: a tree that remembers the line of every key and value, and `--set` overrides
//! laid over it.
//!
//! Reading goes through [`Section`] and [`Field`], so that a wrong value is reported as `file:line:key` with
//! what would be right. A tree rather than typed structs, because a typed reader forgets where a value stood
//! once it is read.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use crate::error::{Error, ErrorKind, Result, guess};

/// Where a value was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// 1-based line of the file.
    Line(u64),
    /// The command line, as `--set KEY=VALUE`, or the program itself.
    CommandLine,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it was typed.
    pub origin: Origin,
    /// What was typed.
    pub value: Value,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`; `yes` and `on` are strings.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text, quoted or not.
    String(String),
    /// A list, as `[a, b]` or an item a line.
    List(Vec<Node>),
    /// `{key: value}`, in the order typed.
    Map(Vec<(String, Node)>),
}

impl Value {
    fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(v) => format!("{v}"),
            Self::Integer(v) => format!("{v}"),
            Self::Float(v) => format!("{v}"),
            Self::String(v) => format!("the text {v:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a section of keys".to_owned(),
        }
    }
}

impl Node {
    /// Reads one YAML document; `file` is only named in errors.
    pub fn parse(text: &str, file: &Path) -> Result<Self> {
        // NaN and infinities are let through here, so that they are refused with their key.
        let non_finite = serde_yaml::options::NonFiniteFloatPolicy::PassThrough;
        let options = serde_yaml::options! { strict_booleans: true, with_snippet: false, non_finite_float_policy: non_finite };
        let spanned: Spanned<Value> = serde_yaml::from_str_with_options(text, options).map_err(|cause| {
            let line = cause.location().map(|l| l.line()).filter(|&l| l > 0);
            let message = cause.to_string();
            let sentence = message.lines().next().unwrap_or_default();
            let sentence = sentence
                .rsplit_once(" at line ")
                .map_or(sentence, |(sentence, _)| sentence)
                .trim_end_matches('.');
            Error::new(ErrorKind::Config, format!("not readable as YAML: {sentence}"))
                .at_line(file, line, None)
                .help("a config is YAML: `key: value` lines, sections indented by two spaces")
        })?;
        Ok(node(spanned))
    }

    /// Lays `KEY=VALUE` over the tree: a dotted key, and a value in YAML.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let usage =
            |message: String| Error::new(ErrorKind::Usage, message).help("write --set training.epochs=3");
        let (path, text) = assignment
            .split_once('=')
            .ok_or_else(|| usage(format!("--set {assignment:?} has no `=` between key and value")))?;
        let keys: Vec<&str> = path.trim().split('.').collect();
        if keys.iter().any(|k| k.is_empty()) {
            return Err(usage(format!("--set {assignment:?} has an empty key")));
        }
        let mut value = Self::parse(text, Path::new("--set"))?;
        value.move_to_command_line();
        self.put(&keys, value).map_err(|at| {
            usage(format!("--set {assignment:?}: `{}` is a value, not a section", keys[..at].join(".")))
        })
    }

    /// Puts `value` where `keys` lead; sections that are not there are made.
    ///
    /// # Errors
    /// The number of the first keys that lead to a value, where a section should be.
    pub(super) fn put(&mut self, keys: &[&str], value: Self) -> std::result::Result<(), usize> {
        let mut at = self;
        for (i, key) in keys.iter().enumerate() {
            if at.value == Value::Null {
                at.value = Value::Map(Vec::new());
            }
            let Value::Map(entries) = &mut at.value else { return Err(i) };
            let position = entries.iter().position(|(k, _)| k == key).unwrap_or_else(|| {
                entries.push(((*key).to_owned(), Self::settled(Value::Null)));
                entries.len() - 1
            });
            at = &mut entries[position].1;
        }
        *at = value;
        Ok(())
    }

    /// A value that no file gives, but the command line or the program.
    pub(super) fn settled(value: Value) -> Self {
        Self { origin: Origin::CommandLine, value }
    }

    fn move_to_command_line(&mut self) {
        self.origin = Origin::CommandLine;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(Self::move_to_command_line),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, n)| n.move_to_command_line()),
            _ => {}
        }
    }

    /// The same values as JSON, without their places.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(v) => Json::Bool(*v),
            Value::Integer(v) => Json::from(*v),
            Value::Float(v) => Json::from(*v),
            Value::String(v) => Json::String(v.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(k, n)| (k.clone(), n.to_json())).collect())
            }
        }
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { origin: Origin::Line(spanned.referenced.line().max(1)), value: spanned.value }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> std::result::Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> std::result::Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_some<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> std::result::Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }
            fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
                Ok(Value::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
                Ok(Value::Integer(v))
            }
            fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
                Ok(i64::try_from(v).map_or(Value::Float(v as f64), Value::Integer))
            }
            fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
                Ok(Value::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
                Ok(Value::String(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<Spanned<Value>>()? {
                    items.push(node(item));
                }
                Ok(Value::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    entries.push((key, node(map.next_value::<Spanned<Value>>()?)));
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Names of the Keras tutorial that no letter of ours is like.
const KERAS_NAMES: [(&str, &str); 4] = [
    ("latent_dim", "hidden"),
    ("units", "hidden"),
    ("validation_split", "validation"),
    ("num_samples", "limit"),
];

/// One value with its file and dotted key, ready to be read as what it should be.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    file: &'a Path,
    key: String,
    node: &'a Node,
}

/// A section whose keys are all known.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    field: Field<'a>,
    entries: &'a [(String, Node)],
}

impl<'a> Field<'a> {
    /// The whole document.
    pub fn root(file: &'a Path, node: &'a Node) -> Self {
        Self { file, key: String::new(), node }
    }

    /// The dotted key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The tree below.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// An error at this place; `help` says what would be right.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) -> Error {
        let key = (!self.key.is_empty()).then_some(self.key.as_str());
        let (file, line) = match self.node.origin {
            Origin::Line(line) => (self.file, Some(line)),
            Origin::CommandLine => (Path::new("--set"), None),
        };
        Error::new(ErrorKind::Config, message).at_line(file, line, key).help(help)
    }

    fn mismatch(&self, wanted: &str) -> Error {
        self.error(format!("this is {}, not {wanted}", self.node.value.kind()), format!("give {wanted}"))
    }

    /// A key of this section.
    pub fn child(&self, key: &str, node: &'a Node) -> Self {
        let key = if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) };
        Self { file: self.file, key, node }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// Whether it is a section.
    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// A section that has no other keys than `known`.
    pub fn section(&self, known: &[&str]) -> Result<Section<'a>> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.mismatch(&format!("a section with keys out of: {}", known.join(", "))));
        };
        let section = Section { field: self.clone(), entries };
        for (key, node) in entries {
            if !known.contains(&key.as_str()) {
                #[cfg(test)]
                tests::KNOWN.set(known.iter().map(|&key| key.to_owned()).collect());
                let keras = KERAS_NAMES.iter().find(|(name, ours)| name == key && known.contains(ours));
                let help = keras.map_or_else(
                    || guess(key, "known keys here", known.iter().copied()),
                    |(_, ours)| format!("did you mean `{ours}`?"),
                );
                return Err(self.child(key, node).error("unknown key", help));
            }
        }
        Ok(section)
    }

    /// The text that this is.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a number, a truth value, a list or a section.
    pub fn string(&self) -> Result<&'a str> {
        match &self.node.value {
            Value::String(v) if !v.is_empty() => Ok(v),
            _ => Err(self.mismatch("text")),
        }
    }

    /// Text that can name a folder: ASCII letters, digits, `.`, `_` and `-`, no dot in front.
    pub fn folder_name(&self) -> Result<&'a str> {
        let name = self.string()?;
        if name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !name.starts_with('.') {
            return Ok(name);
        }
        let help = "use ASCII letters, digits, `.`, `_` and `-`";
        Err(self.error(format!("`{name}` cannot name a folder"), help))
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool> {
        match self.node.value {
            Value::Bool(v) => Ok(v),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Result<i64> {
        match self.node.value {
            Value::Integer(v) if range.contains(&v) => Ok(v),
            _ if *range.end() == i64::MAX => {
                Err(self.mismatch(&format!("a whole number of at least {}", range.start())))
            }
            _ => Err(self.mismatch(&format!("a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A count within `range`.
    pub fn count(&self, range: RangeInclusive<u32>) -> Result<usize> {
        let end = if *range.end() == u32::MAX { i64::MAX } else { i64::from(*range.end()) };
        let value = self.integer(i64::from(*range.start())..=end)?;
        usize::try_from(value).map_err(|_| self.mismatch("a smaller whole number"))
    }

    /// A finite number for which `fits` holds; `wanted` describes it.
    pub fn number(&self, wanted: &str, fits: impl Fn(f64) -> bool) -> Result<f64> {
        let value = match self.node.value {
            Value::Integer(v) => v as f64,
            Value::Float(v) => v,
            _ => return Err(self.mismatch(wanted)),
        };
        if value.is_finite() && fits(value) { Ok(value) } else { Err(self.mismatch(wanted)) }
    }

    /// One word of a fixed set.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let Value::String(typed) = &self.node.value else {
            return Err(self.mismatch(&format!("one of: {}", names.join(", "))));
        };
        choices.iter().find(|(name, _)| name == typed).map(|(_, value)| *value).ok_or_else(|| {
            self.error(
                format!("`{typed}` is not known here"),
                guess(typed, "known words here", names.iter().copied()),
            )
        })
    }

    /// The items of a list.
    pub fn list(&self) -> Result<Vec<Self>> {
        let Value::List(items) = &self.node.value else { return Err(self.mismatch("a list such as [a, b]")) };
        Ok(items
            .iter()
            .enumerate()
            .map(|(i, node)| Self { file: self.file, key: format!("{}[{i}]", self.key), node })
            .collect())
    }
}

impl<'a> Section<'a> {
    /// The section itself, for errors about several of its keys.
    pub fn whole(&self) -> &Field<'a> {
        &self.field
    }

    /// A key, where it was typed and is not `null`.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        self.typed(key).filter(|f| !f.is_null())
    }

    /// A key, where it was typed, `null` included.
    pub fn typed(&self, key: &str) -> Option<Field<'a>> {
        self.entries.iter().find(|(k, _)| k == key).map(|(k, node)| self.field.child(k, node))
    }

    /// A key that must be there; `example` shows one.
    pub fn required(&self, key: &str, example: &str) -> Result<Field<'a>> {
        self.get(key).ok_or_else(|| {
            self.field.error(format!("`{key}` is missing here"), format!("add `{key}: {example}`"))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;

    thread_local! {
        /// What the section knows whose unknown key was refused last: an error names but a few of many keys.
        pub(in crate::config) static KNOWN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
}
