//! `s2s inspect`: tables and pictures of a model.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::file;
use s2s_runtime::engine::{self, Engine, EngineKind};
use s2s_runtime::manifest::Role;
use s2s_runtime::{files, printable};

use crate::cli::{Global, terminal};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{feature_kind, read_features};
use crate::families::recurrent::Run;
use crate::files::write_atomically;
use crate::inspect::language::Language;
use crate::inspect::{Subject, View as Drawn, table};
use crate::network::Network;
use crate::train::Which;

/// Show a model: its layers as a table, or as a picture
///
/// Reads a bundle (folder or zip), the folder of a run, or any ONNX file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A bundle, a run folder or an ONNX file
    #[arg(value_name = "DIR|RUN|FILE.onnx")]
    path: PathBuf,
    /// List every tensor too, with its range
    #[arg(long, env = "S2S_TENSORS", value_parser = FalseyValueParser::new())]
    tensors: bool,
    /// Draw it instead: svg, png, dot or mermaid
    #[arg(long, value_enum, value_name = "FORMAT", env = "S2S_GRAPH")]
    graph: Option<Format>,
    /// What is drawn [default: overview; of a lone file its graph]
    #[arg(long, value_enum, env = "S2S_VIEW", requires = "graph")]
    view: Option<View>,
    /// The language of the picture's words; names stay as they are
    #[arg(
        long,
        value_enum,
        value_name = "CODE",
        default_value = "en",
        env = "S2S_PICTURE_LANGUAGE",
        requires = "graph"
    )]
    language: Words,
    /// Where the picture goes [default: stdout]
    #[arg(short, long, value_name = "FILE", env = "S2S_PICTURE", requires = "graph")]
    output: Option<PathBuf>,
}

/// Formats of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Vector graphics, for browsers and documents
    Svg,
    /// Pixels
    Png,
    /// Graphviz
    Dot,
    /// Mermaid, for Markdown
    Mermaid,
}

/// Languages of a picture's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Words {
    /// English
    En,
    /// Chinese
    Zh,
}

/// What of a model is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum View {
    /// The network with the three graphs as cuts of it
    Overview,
    /// The layers of the network
    Network,
    /// The nodes of encoder.onnx
    Encoder,
    /// The nodes of decoder.onnx
    Decoder,
    /// The nodes of training.onnx
    Training,
    /// The nodes of translate.onnx
    Translate,
    /// The nodes of encoder_step.onnx
    EncoderStep,
}

/// Runs `s2s inspect`.
pub fn run(args: &Args, global: &Global) -> Result<()> {
    let mut subject = open(&args.path)?;
    subject.language = match args.language {
        Words::En => Language::English,
        Words::Zh => Language::Chinese,
    };
    let Some(format) = args.graph else {
        if global.json {
            println!("{}", printable::json(&table::to_json(&subject, args.tensors).to_string()));
        } else {
            print!("{}", printable::lines(&table::summary(&subject, args.tensors, terminal::stdout_width())));
            let engine = tried(&args.path);
            if let Some(remark) = engine.as_ref().and_then(|engine| engine.remark()) {
                println!("\n{}", printable::line(remark));
            }
            println!(
                "\n{}",
                terminal::paint(
                    "32",
                    &printable::line(&table::verdict(&subject, engine.is_some())),
                    terminal::stdout_has_colours()
                )
            );
        }
        return Ok(());
    };
    let view = match args.view {
        Some(View::Network) => Drawn::Network,
        Some(View::Encoder) => Drawn::Graph(Role::Encoder),
        Some(View::Decoder) => Drawn::Graph(Role::Decoder),
        Some(View::Training) => Drawn::Graph(Role::Training),
        Some(View::Translate) => Drawn::Graph(Role::Translate),
        Some(View::EncoderStep) => Drawn::Graph(Role::EncoderStep),
        None if subject.graphs.len() == 1 => Drawn::Network,
        Some(View::Overview) | None => Drawn::Overview,
    };
    let bytes = match format {
        Format::Svg => subject.svg(view)?.into_bytes(),
        Format::Png => png(&subject.svg(view)?, subject.language)?,
        Format::Dot => subject.dot(view)?.into_bytes(),
        Format::Mermaid => subject.mermaid(view)?.into_bytes(),
    };
    write(&bytes, format, args.output.as_deref())
}

/// A bundle (folder or zip), a run folder or an ONNX file, whichever is at `path`; of a run the graphs that
/// it would export, with the weights of its best epoch, or zeros before there is one.
fn open(path: &Path) -> Result<Subject> {
    if path.is_file() && path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("zip")) {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        return Subject::of_graph(name.clone(), name, files::read(path, files::GRAPH)?);
    }
    if path.is_dir() && Run::exists(path) && !path.join(file::MANIFEST).exists() {
        let run = Run::open(path)?;
        let best = run.checkpoint(Which::Best)?;
        let parameters = best.map_or_else(|| run.network.parameters(), |checkpoint| checkpoint.parameters);
        return Subject::of_network(&run.config.name, &run.network, &parameters);
    }
    if feature_kind(path).is_some() {
        let (manifest, model) = read_features::<serde_json::Value>(path)?;
        return Subject::of_graph(manifest.name, manifest.graph.file, model);
    }
    Subject::of_bundle(&Bundle::open(path)?)
}

/// An engine that was tried with padding, over a pair of graphs of another program; `None` if it is no such
/// pair, or no engine here runs it.
fn tried(path: &Path) -> Option<Box<dyn Engine>> {
    let bundle = Bundle::open(path).ok().filter(engine::is_tried)?;
    EngineKind::COMPILED.iter().find_map(|&kind| engine::open_silently(&bundle, kind).ok())
}

#[cfg(feature = "png")]
fn png(svg: &str, language: Language) -> Result<Vec<u8>> {
    use crate::inspect::png;
    if language == Language::Chinese && !png::has_font_for('图') {
        return Err(Error::new(
            ErrorKind::Usage,
            "no font of this machine has Chinese characters, which pixels are drawn with",
        )
        .help("use --graph svg, or install such a font (Debian: fonts-noto-cjk)"));
    }
    png::render(svg, 2.0)
}

#[cfg(not(feature = "png"))]
fn png(_: &str, _: Language) -> Result<Vec<u8>> {
    Err(Error::new(ErrorKind::Usage, "this s2s was built without PNG")
        .help("use --graph svg, or build with `--features png`"))
}

fn write(bytes: &[u8], format: Format, output: Option<&Path>) -> Result<()> {
    match output {
        Some(path) => write_atomically(path, bytes),
        None if format == Format::Png && std::io::stdout().is_terminal() => {
            Err(Error::new(ErrorKind::Usage, "a PNG does not go to a terminal").help("add -o FILE.png"))
        }
        None => std::io::stdout().write_all(bytes).map_err(|e| Error::io("stdout", e)),
    }
}
