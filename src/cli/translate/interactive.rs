//! `s2s translate -i`: a conversation, with a line editor where a person types.

use std::io::{BufReader, IsTerminal, Write};

use rustyline::config::{Behavior, Builder};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::translator::{Piece, Translation, Translator};

use super::lines::{Lines, closed, one_line, read_line, typed};
use crate::cli::report;
use crate::error::{Error, ErrorKind, Result};

const PROMPT: &str = "> ";
/// Lines that the arrow keys bring back. They are kept in memory alone: what somebody had translated is
/// nobody else's.
const HISTORY: usize = 1000;

/// Where lines come from: a person at a terminal edits them, everything else is read as it is.
enum Source {
    Terminal(Box<Editor<(), MemHistory>>),
    Plain(BufReader<std::io::StdinLock<'static>>),
}

/// What was typed.
enum Typed {
    Line(Result<String>),
    /// Ctrl-C: the line is dropped.
    Dropped,
    End,
}

impl Source {
    fn open() -> Self {
        let plain = || Self::Plain(BufReader::new(std::io::stdin().lock()));
        if !std::io::stdin().is_terminal() {
            return plain();
        }
        // The prompt goes to the terminal itself, so that stdout stays data.
        let config = Config::builder()
            .max_history_size(HISTORY)
            .and_then(|config: Builder| config.history_ignore_dups(true));
        match config.and_then(|config| {
            Editor::with_history(config.behavior(Behavior::PreferTerm).build(), MemHistory::new())
        }) {
            Ok(editor) => Self::Terminal(Box::new(editor)),
            Err(_) => plain(),
        }
    }

    fn next(&mut self) -> Result<Typed> {
        match self {
            Self::Plain(reader) => Ok(read_line(reader)?.map_or(Typed::End, Typed::Line)),
            Self::Terminal(editor) => match editor.readline(PROMPT) {
                Ok(line) => {
                    // A line that cannot be remembered is translated all the same.
                    let _ = editor.add_history_entry(line.as_str());
                    Ok(Typed::Line(typed(line)))
                }
                Err(ReadlineError::Interrupted) => Ok(Typed::Dropped),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(ReadlineError::Io(cause)) => Err(Error::io("stdin", cause)),
                Err(cause) => Err(Error::new(ErrorKind::Io, "the terminal cannot be read").caused_by(cause)),
            },
        }
    }
}

impl<W: Write> Lines<W> {
    /// A conversation: each line is answered before the next is asked for. Ctrl-D ends it, and so does Ctrl-C
    /// twice.
    pub(super) fn interact(mut self, mut translator: Translator, options: &DecodingOptions) -> Result<()> {
        let mut source = Source::open();
        if matches!(source, Source::Terminal(_)) && !self.quiet {
            eprintln!("Type a text and Enter; arrow keys edit and bring earlier lines back, Ctrl-D ends.");
        }
        let mut dropped = false;
        loop {
            let line = match source.next()? {
                Typed::End => break,
                Typed::Dropped if dropped => break,
                Typed::Dropped => {
                    dropped = true;
                    eprintln!("Ctrl-C once more, or Ctrl-D, ends.");
                    continue;
                }
                Typed::Line(line) => line,
            };
            dropped = false;
            let outcome = line.and_then(|text| {
                self.show(&mut translator, &text, options).map(|translation| (text, translation))
            });
            match outcome {
                Ok((text, translation)) if self.json || self.is_ranked() => {
                    self.write(&text, Ok(translation))?;
                }
                Ok((text, translation)) => {
                    self.read += 1;
                    writeln!(self.out).map_err(closed)?;
                    self.remark(&text, &translation);
                }
                Err(error) if report::is_broken_pipe(&error) => return Err(error),
                Err(error) => self.write("", Err(error))?,
            }
            self.out.flush().map_err(closed)?;
        }
        self.outcome()
    }

    /// Translates a line, and writes it while it is decoded where it is one text in one line.
    fn show(
        &mut self,
        translator: &mut Translator,
        text: &str,
        options: &DecodingOptions,
    ) -> Result<Translation> {
        let mut done = None;
        for piece in translator.stream(text, options)? {
            match piece? {
                Piece::Text(text) if !self.json && !self.is_ranked() => {
                    write!(self.out, "{}", one_line(&text))
                        .and_then(|()| self.out.flush())
                        .map_err(closed)?;
                }
                Piece::Text(_) => {}
                Piece::Done(translation) => done = Some(*translation),
            }
        }
        done.ok_or_else(|| Error::new(ErrorKind::Internal, "a stream ended without a translation"))
    }
}
