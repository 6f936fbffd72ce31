//! Models that can be seen: tables and pictures of a run, a bundle or any ONNX file.
//!
//! Everything is read from the graphs themselves, so that what is shown is what runs: [`shapes`] finds the
//! axes of every value, [`model`] groups nodes into layers, [`table`] and [`draw`] show them,
//! [`overview`](mod@overview) draws the one network with its three cuts.

use prost::Message as _;
use s2s_runtime::bundle::Bundle;
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::manifest::{Io, Role};
pub use s2s_runtime::shapes;
use s2s_runtime::vocabulary::Padding;

use crate::error::{Error, ErrorKind, Result};
use crate::network::{Architecture, AttentionScore, Cell, Network, Parameters, Seq2Seq};
use crate::onnx::{DEFAULT_OPSET, GraphBuilder, ir_version};

pub mod body;
pub mod draw;
pub mod language;
pub mod layout;
pub mod model;
pub mod overview;
#[cfg(feature = "png")]
pub mod png;
pub mod svg;
pub mod table;

use language::Language;
use model::{Detail, Model};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The model's name.
    pub name: String,
    /// Its graphs; the one that has the whole network first.
    pub graphs: Vec<Graph>,
    /// Sizes, where it is a network of this project.
    pub architecture: Option<Architecture>,
    /// The language of the words in its pictures.
    pub language: Language,
    /// What the graphs do to sources by themselves.
    pub graph_padding: Option<Padding>,
}

/// One ONNX file.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Its part, where it is one of three.
    pub role: Option<Role>,
    /// Name of its file, in the bundle or as it would be exported.
    pub file: String,
    /// The whole file, an encoded `ModelProto`.
    pub bytes: Vec<u8>,
    /// Its nodes, grouped into layers.
    pub model: Model,
}

/// Parameters that belong to special symbols, which a Keras model of the same text does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// Of PAD, START, END and UNK of the source.
    pub source: usize,
    /// Of PAD and UNK of the target; START and END are tokens in Keras too.
    pub target: usize,
    /// Source symbols without the special ones.
    pub source_tokens: usize,
    /// Target symbols, START and END counted.
    pub target_tokens: usize,
    /// Whether Keras has a network of the same parameters: its GRU has two biases, its attention other
    /// weights.
    pub is_keras: bool,
}

/// What of a subject is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The network with the three graphs as cuts of it.
    Overview,
    /// The layers of the network.
    Network,
    /// The nodes of one graph.
    Graph(Role),
}

impl Subject {
    /// One graph that is no part of three.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] for bytes that are no ONNX model.
    pub fn of_graph(name: String, file: String, bytes: Vec<u8>) -> Result<Self> {
        let model = Model::read(&file, &bytes, Detail::Layers)?;
        Ok(Self {
            name,
            graphs: vec![Graph { role: None, file, bytes, model }],
            architecture: None,
            graph_padding: None,
            language: Language::English,
        })
    }

    /// The graphs of an opened bundle.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] for a bundle without graphs.
    pub fn of_bundle(bundle: &Bundle) -> Result<Self> {
        let manifest = bundle.manifest();
        let graphs = [Role::Training, Role::Encoder, Role::Decoder, Role::Translate, Role::EncoderStep]
            .into_iter()
            .filter(|role| manifest.graphs.contains_key(role))
            .map(|role| graph(role, bundle.graph_name(role), bundle.graph(role)?.to_vec()))
            .collect::<Result<Vec<_>>>()?;
        let architecture = manifest.architecture.clone().and_then(|a| serde_json::from_value(a).ok());
        if graphs.is_empty() {
            return Err(Error::new(ErrorKind::Bundle, "the bundle has no graphs").in_file(bundle.path()));
        }
        Ok(Self {
            name: manifest.name.clone(),
            graphs,
            architecture,
            graph_padding: manifest.source.graph_padding.clone(),
            language: Language::English,
        })
    }

    /// The three graphs that a network is exported as, with these weights.
    ///
    /// # Errors
    /// None that a network of this project is known to cause: its graphs are read as any others are.
    pub fn of_network(name: &str, network: &Seq2Seq, parameters: &Parameters<f32>) -> Result<Self> {
        let emit = |role: Role| {
            let mut builder = GraphBuilder::new(role.as_str());
            match role {
                Role::Encoder => network.emit_encoder(parameters, &mut builder, Io::Ids),
                Role::Decoder => network.emit_decoder(parameters, &mut builder, Io::Ids),
                Role::Training => network.emit_training(parameters, &mut builder, Io::Ids),
                Role::Translate => network.emit_translate(parameters, &mut builder),
                Role::EncoderStep => network.emit_encoder_step(parameters, &mut builder, Io::Ids),
            }
            builder.finish(DEFAULT_OPSET, ir_version(DEFAULT_OPSET), &[]).encode_to_vec()
        };
        let graphs = [Role::Training, Role::Encoder, Role::Decoder]
            .into_iter()
            .map(|role| graph(role, role.file(), emit(role)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            name: name.to_owned(),
            graphs,
            architecture: Some(network.architecture().clone()),
            graph_padding: None,
            language: Language::English,
        })
    }

    /// The graph that has the whole network.
    pub fn main(&self) -> &Graph {
        &self.graphs[0]
    }

    fn title(&self) -> String {
        let title = match self.graphs.len() {
            1 => format!("Graph: {}", self.name),
            _ => format!("Model: {}", self.name),
        };
        let Some(padding) = &self.graph_padding else { return title };
        let (symbol, length, least) = (&padding.symbol, padding.length, padding.least);
        if least > 0 {
            return format!(
                "{title}\nThe graphs put {symbol:?} to every source by themselves, at least {least}, up to \
                 {length} symbols: there is nothing to do"
            );
        }
        format!(
            "{title}\nSources of fewer than {length} symbols: the graphs fill them up with {symbol:?}, there \
             is nothing to do"
        )
    }

    /// Parameters of special symbols, where the training graph and the architecture tell.
    pub fn special(&self) -> Option<Special> {
        let a = self.architecture.as_ref()?;
        let main = self.graphs.iter().find(|g| g.role == Some(Role::Training))?;
        let of = |side: &str, vocabulary: usize| -> usize {
            let weights = main.model.tensors.iter().filter(|t| t.is_weight() && t.name.starts_with(side));
            weights
                .filter_map(|t| {
                    let (last, width) = (t.name.rsplit('.').next()?, *t.shape.last()?);
                    match last {
                        "embedding" => Some(width),
                        // The last column is the bias.
                        "W" if width.checked_sub(1) == Some(vocabulary) && t.name.contains("_0") => {
                            t.len().checked_div(width)
                        }
                        "weight" | "bias" if width == vocabulary => t.len().checked_div(width),
                        _ => None,
                    }
                })
                .sum()
        };
        Some(Special {
            source: 4 * of("encoder", a.source_vocabulary),
            target: 2 * of("decoder", a.target_vocabulary),
            source_tokens: a.source_vocabulary.saturating_sub(4),
            target_tokens: a.target_vocabulary.saturating_sub(2),
            is_keras: a.cell == Cell::Lstm && a.attention == AttentionScore::None && !a.tied_embeddings,
        })
    }

    /// Title, boxes and arrows of a view that is one graph.
    fn picture(&self, view: View) -> Result<(String, Vec<svg::Node>, Vec<svg::Arrow>)> {
        let (model, title) = match view {
            View::Overview | View::Network => {
                (self.main().model.clone(), self.language.layers_of(&self.name))
            }
            View::Graph(role) => {
                let found = self
                    .graphs
                    .iter()
                    .find(|g| g.role == Some(role) || (self.graphs.len() == 1 && g.role.is_none()));
                let missing = || {
                    Error::new(ErrorKind::Usage, format!("there is no {role} graph"))
                        .in_graph(&self.name, None)
                };
                let graph = found.ok_or_else(missing)?;
                let title = if graph.role.is_some() {
                    format!("{}: {}", self.name, graph.file)
                } else {
                    graph.file.clone()
                };
                (Model::read(&graph.file, &graph.bytes, Detail::Nodes)?, title)
            }
        };
        let (nodes, arrows) = draw::picture(&model, self.language)?;
        Ok((title, nodes, arrows))
    }

    /// A picture as SVG.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a graph that is not there, or too large to be drawn.
    pub fn svg(&self, view: View) -> Result<String> {
        if view == View::Overview && self.graphs.len() >= 3 {
            let files = [Role::Training, Role::Encoder, Role::Decoder].into_iter().filter_map(|role| {
                let graph = self.graphs.iter().find(|g| g.role == Some(role))?;
                Some((role, graph.file.clone(), graph.model.clone()))
            });
            return overview::overview(
                &self.name,
                &self.main().model,
                &files.collect::<Vec<_>>(),
                self.language,
            );
        }
        let (title, nodes, arrows) = self.picture(view)?;
        let whole = svg::graph(&title, &nodes, &arrows, self.language);
        let mut pictures = vec![whole];
        if let View::Graph(role) = view
            && let Some(graph) = self.graphs.iter().find(|g| g.role == Some(role))
        {
            let (mut boxes, mut lines) = (nodes.len(), arrows.len());
            for body in body::bodies(&CheckedModel::read(&graph.file, &graph.bytes)?) {
                let (name, body) = body?;
                let (nodes, arrows) = draw::picture(&Model::of(&body, Detail::Nodes), self.language)?;
                // All bodies together, as if they were one graph.
                (boxes, lines) = (boxes + nodes.len(), lines + arrows.len());
                draw::check_size(&graph.file, boxes, lines)?;
                pictures.push(svg::graph(&self.language.body_of(&name), &nodes, &arrows, self.language));
            }
        }
        Ok(svg::beside(&title, pictures, self.language))
    }

    /// A picture in Graphviz's language.
    ///
    /// # Errors
    /// As [`svg`](Self::svg).
    pub fn dot(&self, view: View) -> Result<String> {
        self.picture(view).map(|(title, nodes, arrows)| draw::dot(&title, &nodes, &arrows))
    }

    /// A picture in Mermaid's language.
    ///
    /// # Errors
    /// As [`svg`](Self::svg).
    pub fn mermaid(&self, view: View) -> Result<String> {
        self.picture(view).map(|(_, nodes, arrows)| draw::mermaid(&nodes, &arrows))
    }
}

fn graph(role: Role, file: &str, bytes: Vec<u8>) -> Result<Graph> {
    let model = Model::read(file, &bytes, Detail::Layers)?;
    Ok(Graph { role: Some(role), file: file.to_owned(), bytes, model })
}

#[cfg(test)]
mod tests;
