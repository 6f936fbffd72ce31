//! `serve-local --config FILE`: the server's flags as keys of a YAML file.
//!
//! A key is a flag with underscores; `bundles` are the arguments. What the command line says comes first, then
//! the environment, then the file, then the defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use s2s_runtime::{files, guess, yaml};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// The key of the arguments.
const BUNDLES: &str = "bundles";
/// Keys of paths, which are relative to the file's folder.
const PATHS: [&str; 2] = [BUNDLES, "decoding"];

/// The arguments that a file stands for, where neither command line nor environment says otherwise.
///
/// - `command`: the definition of `serve-local`; `matches`: what was typed behind it.
///
/// # Errors
/// [`ErrorKind::Config`] with file, line and key for a key that is no flag, and a value that the flag does not
/// take; of reading.
pub(in crate::cli) fn arguments(
    command: &Command,
    matches: &ArgMatches,
    file: &Path,
) -> Result<Vec<OsString>> {
    let text = files::read_text(file, files::OPTIONS)?;
    let keys: Option<BTreeMap<String, Value>> = yaml::from_str(&text, file, ErrorKind::Config)?;
    let line = |key: &str| {
        let assigns =
            |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
        text.lines().zip(1..).find_map(|(line, number)| assigns(line).then_some(number))
    };
    let wrong = |key: &str, message: String| {
        Error::new(ErrorKind::Config, message).at_line(file, line(key), Some(key))
    };
    let own = |arg: &&clap::Arg| arg.get_long().is_some_and(|long| long != "config" && long != "check");
    let mut arguments = Vec::new();
    for (key, value) in keys.unwrap_or_default() {
        let flag = key.replace('_', "-");
        let arg = command.get_arguments().find(|arg| match key.as_str() {
            BUNDLES => arg.is_positional(),
            _ => own(arg) && arg.get_long() == Some(&flag) && !key.contains('-'),
        });
        let Some(arg) = arg else {
            let mut known: Vec<String> = command
                .get_arguments()
                .filter(own)
                .filter_map(|arg| arg.get_long())
                .map(|long| long.replace('-', "_"))
                .collect();
            known.push(BUNDLES.to_owned());
            let near =
                guess(&key, "the keys are the flags of s2s serve-local", known.iter().map(String::as_str));
            return Err(wrong(&key, "unknown key".to_owned()).help(near));
        };
        let typed = matches.value_source(arg.get_id().as_str());
        if matches!(typed, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            let folder = file.parent().filter(|_| PATHS.contains(&key.as_str()));
            let argument = match scalar(value).map_err(|message| wrong(&key, message))? {
                Scalar::LeftOut => continue,
                Scalar::Flag => OsString::from(format!("--{flag}")),
                Scalar::Text(text) => {
                    let value = folder
                        .map_or_else(|| text.clone().into(), |folder| folder.join(&text).into_os_string());
                    let mut argument = OsString::from(if arg.is_positional() {
                        String::new()
                    } else {
                        format!("--{flag}=")
                    });
                    argument.push(value);
                    argument
                }
            };
            // Alone, so that what is wrong with it is said of its line.
            let alone = [OsString::from("serve-local"), argument.clone(), OsString::from("--check")];
            if let Err(error) = command.clone().try_get_matches_from(alone) {
                let said = error.render().to_string();
                let first = said.lines().next().unwrap_or_default();
                return Err(wrong(&key, first.trim_start_matches("error: ").to_owned()));
            }
            arguments.push(argument);
        }
    }
    Ok(arguments)
}

/// A value as a command line has it.
enum Scalar {
    LeftOut,
    /// The flag alone.
    Flag,
    Text(String),
}

fn scalar(value: Value) -> Result<Scalar, String> {
    match value {
        Value::Null | Value::Bool(false) => Ok(Scalar::LeftOut),
        Value::Bool(true) => Ok(Scalar::Flag),
        Value::Number(number) => Ok(Scalar::Text(number.to_string())),
        Value::String(text) => Ok(Scalar::Text(text)),
        Value::Array(_) | Value::Object(_) => Err("a text, a number or a list of such is wanted".to_owned()),
    }
}
