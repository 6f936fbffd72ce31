//! `s2s config`: start, check, show and describe configs.

use std::io::Write;
use std::path::{Path, PathBuf};

use s2s_runtime::printable;

use crate::cli::Global;
use crate::config::{LoadOptions, schema};
use crate::data::corpus::WHERE_DATA_LIES;
use crate::error::{Error, ErrorKind, Result};
use crate::families::{self, Checked};

/// Start, check, show or describe a config
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a commented config to start from
    Init(Init),
    /// Check configs and their data without training; says file, line and key of a mistake
    Check(Files),
    /// Print a config as it would be used: overrides laid over, as YAML or with --json as JSON
    Show(File),
    /// Print the JSON Schema of configs, for editors
    Schema,
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Where it goes [default: stdout]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is for
    #[arg(long, value_enum, default_value_t, env = "S2S_TEMPLATE")]
    template: Template,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Template {
    /// Pairs of your own
    #[default]
    Pairs,
    /// The self-made task of `s2s demo`
    Dates,
    /// The ten-minute Keras tutorial, one-hot characters
    CmnChars,
    /// The same sentences with embeddings
    CmnEmbedding,
    /// Handwritten digits, a perceptron
    MlpMnist,
}

#[derive(Debug, clap::Args)]
struct Files {
    /// Configs
    #[arg(value_name = "CONFIG", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, clap::Args)]
struct File {
    /// A config, or a run folder
    #[arg(value_name = "CONFIG")]
    file: PathBuf,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, clap::Args)]
struct Load {
    /// Where the data files lie
    #[arg(long, value_name = "DIR", env = "S2S_DATA")]
    data: Option<PathBuf>,
    /// Lay a value over the config, for example --set training.epochs=3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", env = "S2S_SET", value_delimiter = None)]
    set: Vec<String>,
}

impl Load {
    fn options(&self) -> LoadOptions {
        LoadOptions { overrides: self.set.clone(), data: self.data.clone() }
    }
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Pairs => include_str!("../../configs/template.yaml"),
            Self::Dates => include_str!("../../configs/dates.yaml"),
            Self::CmnChars => include_str!("../../configs/cmn_chars.yaml"),
            Self::CmnEmbedding => include_str!("../../configs/cmn_embedding.yaml"),
            Self::MlpMnist => include_str!("../../configs/mlp_mnist.yaml"),
        }
    }
}

/// Runs `s2s config`.
pub fn run(args: &Args, global: &Global) -> Result<()> {
    match &args.action {
        Action::Init(init) => start(init, global),
        Action::Check(files) => check(files, global),
        Action::Show(file) => show(file, global),
        Action::Schema => {
            let text = serde_json::to_string_pretty(&schema::schema());
            println!(
                "{}",
                text.map_err(
                    |e| Error::new(ErrorKind::Internal, "the schema cannot be written").caused_by(e)
                )?
            );
            Ok(())
        }
    }
}

fn start(init: &Init, global: &Global) -> Result<()> {
    let Some(path) = &init.file else {
        print!("{}", init.template.text());
        return Ok(());
    };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Usage, "this file is there already")
                .in_file(path)
                .help("name another file, or delete it first"),
            _ => Error::io(path, e),
        })?;
    file.write_all(init.template.text().as_bytes()).map_err(|e| Error::io(path, e))?;
    if !global.quiet {
        eprintln!("Wrote {}. Next: s2s config check {0}, then s2s train {0}", path.display());
    }
    Ok(())
}

fn check(files: &Files, global: &Global) -> Result<()> {
    for file in &files.files {
        let options = files.load.options();
        let Checked { name, data, missing } = families::of_config(file, &options).check(file, &options)?;
        if global.json {
            let json = serde_json::json!({ "file": file, "name": name, "ok": true, "data": data, "missing": missing });
            println!("{json}");
        } else if !global.quiet {
            println!("{}: ok, trains {name:?}", file.display());
            data.iter().for_each(|report| eprintln!("{}", printable::lines(&report.to_string())));
            if let Some(path) = missing {
                let path = path.display().to_string();
                eprintln!(
                    "{}",
                    printable::lines(&format!("  its data is not there: {path}\n  {WHERE_DATA_LIES}"))
                );
            }
        }
    }
    Ok(())
}

fn show(file: &File, global: &Global) -> Result<()> {
    let inside = file.file.join("config.yaml");
    let path: &Path = if file.file.is_dir() { &inside } else { &file.file };
    let options = file.load.options();
    let json = families::of_config(path, &options).show(path, &options)?;
    if global.json {
        println!("{json}");
        return Ok(());
    }
    let yaml = serde_yaml::to_string(&json);
    print!(
        "{}",
        yaml.map_err(
            |e| Error::new(ErrorKind::Internal, "the config cannot be written as YAML").caused_by(e)
        )?
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_sound_config() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        for (template, kind) in [
            (Template::Pairs, "seq2seq"),
            (Template::Dates, "seq2seq"),
            (Template::CmnChars, "seq2seq"),
            (Template::CmnEmbedding, "seq2seq"),
            (Template::MlpMnist, "mlp"),
        ] {
            let (path, options) = (folder.path().join("template.yaml"), LoadOptions::default());
            std::fs::write(&path, template.text()).map_err(|e| Error::io(&path, e))?;
            let family = families::of_config(&path, &options);
            assert_eq!(family.kind(), kind);
            family.show(&path, &options)?;
        }
        Ok(())
    }
}
