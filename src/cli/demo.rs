//! `s2s demo`: trains, exports, verifies and translates a task that the project makes itself.

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::translator::Translator;

use crate::cli::train::stop_flag;
use crate::cli::verify::show;
use crate::cli::{Global, train};
use crate::config::{Config, LoadOptions};
use crate::error::Result;
use crate::export::{self, ExportOptions, Replace, VerifyOptions};
use crate::families;
use crate::train::{Console, TrainOptions, Which};

const CONFIG: &str = include_str!("../../configs/dates.yaml");

/// None of them is in the training data by intent; the validation score says how it does on texts that
/// certainly are not.
const TEXTS: [&str; 6] = [
    "Sunday, May the 3rd, 1998",
    "29 feb 2024",
    "the 31st of December 1999",
    "JULY 20TH, '69",
    "2001.9.11",
    "23/05/49",
];

/// Train, export, verify and translate the built-in date task in about a minute
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run folder; the bundle is written to its subfolder `bundle`
    #[arg(short, long, value_name = "DIR", default_value = "runs/dates", env = "S2S_OUTPUT")]
    pub output: PathBuf,
    /// Lay a value over the demo's config (configs/dates.yaml); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", env = "S2S_SET")]
    pub set: Vec<String>,
    /// Go on with the run where it stopped
    #[arg(long, env = "S2S_RESUME", conflicts_with = "force")]
    pub resume: bool,
    /// Start over, replacing the run that is in the folder
    #[arg(long, env = "S2S_FORCE")]
    pub force: bool,
}

/// Runs `s2s demo`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let say = |text: &str| {
        if !global.quiet {
            eprintln!("{text}");
        }
    };
    let options = LoadOptions { overrides: args.set, data: None };
    let config = Config::parse(CONFIG, Path::new("configs/dates.yaml"), &options)?;
    let mode = train::mode(args.resume, args.force);
    say("1/4 train: dates as people write them -> ISO 8601");
    let stop = stop_flag()?;
    let training = TrainOptions { output: args.output.clone(), mode, init_from: None, stop: &stop };
    let run =
        families::recurrent::train(config, &training, &mut Console::new(global.json, global.quiet))?.run;

    say(
        "\n2/4 export and 3/4 verify: three ONNX graphs, held against the trainer's own pass in every engine",
    );
    let parameters = run.parameters(Which::Best)?;
    let input = run.export_input(&parameters, Some(run.provenance(Which::Best)?));
    let folder = args.output.join("bundle");
    let replace = Replace::OlderOf(run.config.name.clone());
    let report =
        export::export(&input, &ExportOptions::default(), &VerifyOptions::default(), &folder, &replace)
            .map_err(|e| e.in_file(&folder))?;
    show(&report, global)?;

    say("\n4/4 translate");
    let bundle = Bundle::open(&folder)?;
    let engine = engine::open(&bundle, EngineKind::Auto)?;
    let translations = Translator::new(bundle, engine).translate(&TEXTS, &DecodingOptions::default())?;
    for (text, translation) in TEXTS.iter().zip(&translations) {
        if global.json {
            println!("{}", serde_json::json!({ "source": text, "translation": translation.text }));
        } else if !global.quiet {
            println!("{text:28} -> {}", translation.text);
        }
    }
    let (run, folder) = (args.output.display(), folder.display());
    say(&format!(
        "\nIt is all in {run}; the bundle, which is what you would give to others, in {folder}. Next:\n\
         \x20 s2s translate {folder} \"4th of July 1976\"\n\
         \x20 s2s translate -i {folder}          one line after another\n\
         \x20 s2s serve-local {folder}           then open http://localhost:8080\n\
         \x20 s2s inspect {folder}               its layers and graphs\n\
         and with pairs of your own:\n\
         \x20 s2s config init my.yaml && s2s config check my.yaml && s2s train my.yaml"
    ));
    Ok(())
}
