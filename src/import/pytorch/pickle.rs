//! Python's pickles, read as data: the values of a checkpoint, and nothing that they would run.
//!
//! A pickle is a program for a stack machine, which may call any function of Python. Here a call makes a
//! value that remembers the function's name; the few functions that PyTorch rebuilds tensors with are known,
//! the others stay names. Opcodes are those of protocols 2 to 5 that data needs (PEP 3154); any other is
//! refused by its byte.
//!
//! Values lie in one list and refer to each other by their places, so that none of them nests on our stack,
//! and a pickle of n bytes has at most n of them.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};

/// Values of one pickle; a vocabulary of 100,000 words has as many.
const MOST_VALUES: usize = 4 << 20;
/// Axes of a tensor; weights have up to three.
const MOST_AXES: usize = 8;

/// The place of a value in [`Pickle::values`].
pub(super) type Ref = u32;

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Ref,
}

/// A value of Python, as far as checkpoints have them.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `None`, and what no checkpoint asks for: bytes, numbers beyond 64 bits.
    Nothing,
    /// An integer or a truth value.
    Integer(i64),
    /// A string; those of Python 2 too.
    Text(String),
    /// A tuple, a list or a set.
    List(Vec<Ref>),
    /// A dictionary of any class, in the order of its keys.
    Dictionary(Vec<(Ref, Ref)>),
    /// A class or a function: its module and its name.
    Global(Ref, Ref),
    /// What `persistent_load` would be asked for: the memory of tensors.
    Persistent(Ref),
    /// A tensor as a view of such memory.
    Tensor(View),
    /// Anything else that was called for: its class or function, and its state.
    Object(Ref, Option<Ref>),
}

/// A tensor within its memory; numbers as they were written, of which nothing is checked.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The persistent id of its memory.
    pub(super) storage: Ref,
    /// First element.
    pub(super) offset: i64,
    /// Lengths of the axes.
    pub(super) shape: Vec<i64>,
    /// Elements between neighbours of each axis.
    pub(super) strides: Vec<i64>,
}

impl Pickle {
    /// The value that the pickle stands for.
    pub(super) fn root(&self) -> Ref {
        self.root
    }

    /// The value at a place.
    pub(super) fn get(&self, at: Ref) -> &Value {
        self.values.get(at as usize).unwrap_or(&Value::Nothing)
    }

    /// The text at a place.
    pub(super) fn text(&self, at: Ref) -> Option<&str> {
        if let Value::Text(text) = self.get(at) { Some(text) } else { None }
    }

    /// The class or function at a place, or that of the object there, as `module.name`.
    pub(super) fn class(&self, at: Ref) -> Option<String> {
        match self.get(at) {
            Value::Global(module, name) => Some(format!("{}.{}", self.text(*module)?, self.text(*name)?)),
            Value::Object(class, _) if *class != at => match self.get(*class) {
                Value::Global(module, name) => Some(format!("{}.{}", self.text(*module)?, self.text(*name)?)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The integer at a place.
    pub(super) fn integer(&self, at: Ref) -> Option<i64> {
        if let Value::Integer(value) = self.get(at) { Some(*value) } else { None }
    }

    /// The items of a list or tuple.
    pub(super) fn list(&self, at: Ref) -> Option<&[Ref]> {
        if let Value::List(items) = self.get(at) { Some(items) } else { None }
    }

    /// The entries of a dictionary, or of the state of an object.
    pub(super) fn entries(&self, at: Ref) -> Option<&[(Ref, Ref)]> {
        match self.get(at) {
            Value::Dictionary(entries) => Some(entries),
            Value::Object(_, Some(state)) => match self.get(*state) {
                Value::Dictionary(entries) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Data, message)
        .help("save the weights again with torch.save(model.state_dict(), ...), or as .safetensors")
}

/// Reads one pickle from `bytes` behind `at`, which becomes the place behind it.
///
/// # Errors
/// [`ErrorKind::Data`] for an opcode that data does not need, or a pickle that is cut off or too large.
pub(super) fn read(bytes: &[u8], at: &mut usize) -> Result<Pickle> {
    let mut machine = Machine { bytes, at: *at, values: Vec::new(), stack: Vec::new(), marks: Vec::new() };
    let mut memo = HashMap::new();
    let root = loop {
        let code = machine.byte()?;
        if code == b'.' {
            break machine.pop()?;
        }
        machine.step(code, &mut memo)?;
    };
    *at = machine.at;
    Ok(Pickle { values: machine.values, root })
}

/// The machine while it runs.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8, memo: &mut HashMap<u32, Ref>) -> Result<()> {
        match code {
            // What needs nothing but its argument.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'N' => self.push(Value::Nothing)?,
            0x88 => self.push(Value::Integer(1))?,
            0x89 => self.push(Value::Integer(0))?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Integer(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            0x8a | 0x8b => {
                let length = self.length(if code == 0x8a { 1 } else { 4 })?;
                let digits = self.take(length)?;
                self.push(long(digits))?;
            }
            // Numbers with a fraction are nothing that is asked for.
            b'G' => {
                self.take(8)?;
                self.push(Value::Nothing)?;
            }
            b'I' | b'L' => {
                let line = self.line()?;
                let value = line.trim_end_matches('L').parse().map_or(Value::Nothing, Value::Integer);
                self.push(value)?;
            }
            b'F' => {
                self.line()?;
                self.push(Value::Nothing)?;
            }
            0x8c | b'X' | 0x8d | b'U' | b'T' => {
                let length = self.length(match code {
                    0x8c | b'U' => 1,
                    0x8d => 8,
                    _ => 4,
                })?;
                let text = String::from_utf8_lossy(self.take(length)?).into_owned();
                self.push(Value::Text(text))?;
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let length = self.length(match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.take(length)?;
                self.push(Value::Nothing)?;
            }
            b'c' => {
                let module = Value::Text(self.line()?.to_owned());
                let name = Value::Text(self.line()?.to_owned());
                let (module, name) = (self.store(module)?, self.store(name)?);
                self.push(Value::Global(module, name))?;
            }
            // What moves values.
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'h' | b'j' => {
                let index = self.index(code == b'j')?;
                let found = memo.get(&index).ok_or_else(|| self.broken("asks for what it did not keep"))?;
                self.stack.push(*found);
            }
            b'q' | b'r' => {
                let index = self.index(code == b'r')?;
                memo.insert(index, self.top()?);
            }
            0x94 => {
                let index = u32::try_from(memo.len()).map_err(|_| self.broken("keeps too much"))?;
                memo.insert(index, self.top()?);
            }
            _ => self.build(code)?,
        }
        Ok(())
    }

    /// What makes values of others.
    fn build(&mut self, code: u8) -> Result<()> {
        match code {
            b')' | b']' | 0x8f => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dictionary(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Value::List(items))
            }
            0x85..=0x87 => {
                let mut items = (0x85..=code).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                self.push(Value::List(items))
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Value::Dictionary(pairs(&items)))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(&items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(&items)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.push(Value::Global(module, name))
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            b'R' | 0x81 => {
                let (arguments, called) = (self.pop()?, self.pop()?);
                self.call(called, arguments)
            }
            0x92 => {
                let (_, arguments, called) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(called, arguments)
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                if let Value::Object(_, place) = &mut self.values[object as usize] {
                    *place = Some(state);
                }
                Ok(())
            }
            _ => {
                let shown = char::from(code);
                let shown = if shown.is_ascii_graphic() { format!(", {shown:?}") } else { String::new() };
                Err(self.broken(&format!("has the opcode {code:#04x}{shown}, which no weights need")))
            }
        }
    }

    /// Pushes what a call makes: tensors and dictionaries where they are known, else a value that remembers
    /// what was called. What exists already is not copied, so that no pickle makes more than it says.
    fn call(&mut self, called: Ref, arguments: Ref) -> Result<()> {
        let Value::Global(module, name) = *self.value(called) else {
            return self.push(Value::Object(called, None));
        };
        let (Value::Text(module), Value::Text(name)) = (self.value(module), self.value(name)) else {
            return Err(self.broken("names a class by something else than text"));
        };
        let arguments = self.list(arguments);
        match (module.as_str(), name.as_str(), arguments) {
            ("collections", "OrderedDict" | "Counter" | "defaultdict", _) => {
                let given = arguments.first().filter(|&&at| matches!(self.value(at), Value::Dictionary(_)));
                match given {
                    Some(&given) => self.stack.push(given),
                    None => return self.push(Value::Dictionary(Vec::new())),
                }
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", &[data, ..])
            | ("torch", "Size", &[data]) => self.stack.push(data),
            (
                "torch._utils",
                "_rebuild_tensor_v2" | "_rebuild_tensor",
                &[storage, offset, shape, strides, ..],
            ) => {
                let (shape, strides) = (self.list(shape), self.list(strides));
                let integer = |&at: &Ref| if let Value::Integer(n) = self.value(at) { *n } else { -1 };
                let made = match self.value(storage) {
                    Value::Persistent(id) if shape.len().max(strides.len()) <= MOST_AXES => {
                        Value::Tensor(View {
                            storage: *id,
                            offset: integer(&offset),
                            shape: shape.iter().map(integer).collect(),
                            strides: strides.iter().map(integer).collect(),
                        })
                    }
                    _ => Value::Object(called, None),
                };
                return self.push(made);
            }
            _ => return self.push(Value::Object(called, None)),
        }
        Ok(())
    }

    /// The items of a list or tuple; none of anything else.
    fn list(&self, at: Ref) -> &[Ref] {
        if let Value::List(items) = self.value(at) { items } else { &[] }
    }

    fn append(&mut self, items: &[Ref]) -> Result<()> {
        let to = self.top()?;
        match &mut self.values[to as usize] {
            Value::List(list) => list.extend_from_slice(items),
            // Lists of other classes: their items are no weights.
            Value::Object(..) => {}
            _ => return Err(self.broken("appends to what is no list")),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Ref]) -> Result<()> {
        let to = self.top()?;
        match &mut self.values[to as usize] {
            Value::Dictionary(entries) => entries.extend(pairs(items)),
            Value::Object(..) => {}
            _ => return Err(self.broken("puts a key into what is no dictionary")),
        }
        Ok(())
    }

    fn value(&self, at: Ref) -> &Value {
        &self.values[at as usize]
    }

    fn push(&mut self, value: Value) -> Result<()> {
        let at = self.store(value)?;
        self.stack.push(at);
        Ok(())
    }

    fn store(&mut self, value: Value) -> Result<Ref> {
        if self.values.len() == MOST_VALUES {
            return Err(self.broken(&format!("has more than {MOST_VALUES} values")));
        }
        self.values.push(value);
        Ok(self.values.len() as Ref - 1)
    }

    fn pop(&mut self) -> Result<Ref> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.broken("takes more than there is"));
        }
        self.stack.pop().ok_or_else(|| self.broken("takes more than there is"))
    }

    fn top(&self) -> Result<Ref> {
        self.stack.last().copied().ok_or_else(|| self.broken("takes more than there is"))
    }

    fn since_mark(&mut self) -> Result<Vec<Ref>> {
        let mark = self.marks.pop().ok_or_else(|| self.broken("closes what it did not open"))?;
        if mark > self.stack.len() {
            return Err(self.broken("takes more than there is"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| wrong("its pickle is cut off"))
    }

    /// A length of so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| self.broken("is cut off"))
    }

    fn index(&mut self, long: bool) -> Result<u32> {
        if long { Ok(u32::from_le_bytes(self.array()?)) } else { Ok(self.byte()?.into()) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or_else(|| self.broken("is cut off"))?];
        self.at += length;
        Ok(taken)
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.broken("is cut off"))?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| self.broken("has a name that is not UTF-8"))
    }

    fn broken(&self, what: &str) -> Error {
        wrong(format!("its pickle {what} (byte {})", self.at))
    }
}

/// Keys and values that lie one behind the other.
fn pairs(items: &[Ref]) -> Vec<(Ref, Ref)> {
    items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)).collect()
}

/// A little-endian number in two's complement.
fn long(digits: &[u8]) -> Value {
    if digits.len() > 8 {
        return Value::Nothing;
    }
    let sign = if digits.last().is_some_and(|&last| last >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..digits.len()].copy_from_slice(digits);
    Value::Integer(i64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests;
