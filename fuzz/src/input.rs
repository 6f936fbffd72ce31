//! Bytes as a row of choices. Whatever the bytes, every choice has an answer: where they end, zeros go on.

/// What is left of an input.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `end`, which must be above 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = if end <= 256 { usize::from(self.byte()) } else { usize::from(self.u16()) };
        number % end
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// So many bytes, or what is left.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes up to `end`, which goes too; all that is left if it does not come.
    pub(crate) fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.0.iter().position(|&byte| byte == end).unwrap_or(self.0.len());
        let taken = self.bytes(at);
        self.bytes(1);
        taken
    }

    /// Text up to `end`.
    pub(crate) fn text(&mut self, end: u8) -> String {
        String::from_utf8_lossy(self.until(end)).into_owned()
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Numbers at which arithmetic goes wrong, and some at which it does not.
pub(crate) const INTEGERS: [i64; 16] =
    [0, 1, 2, 3, 5, 8, -1, -2, 255, 65_536, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, i64::MAX, i64::MIN];

/// Names that something may take for more than a name.
pub(crate) const NAMES: [&str; 14] = [
    "",
    "x",
    "encoder.lstm_0",
    "decoder_input",
    "\u{1b}[31m",
    "<a & \"b\">",
    "]]>",
    "\u{0}",
    "a\nb",
    "\u{202e}x",
    "../../etc/passwd",
    "\u{fffe}",
    "`|}{",
    "é漢\u{1f600}",
];
