//! The part of a decoder that makes keys and values of what the encoder gives: cut out of the decoder, and
//! put behind the encoder.

use std::collections::{HashMap, HashSet};

use super::names::{ENCODER_MASK, HIDDEN, is_encoder_present};
use super::surgery::{constant, node, reads, rename, written};
use crate::checked::CheckedModel;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

/// A decoder for its first step: a whole graph, or a branch of one with what stands around it.
pub(super) struct FirstStep<'a> {
    /// For errors.
    name: &'a str,
    opsets: &'a [OperatorSetIdProto],
    nodes: Vec<&'a NodeProto>,
    tensors: Vec<&'a TensorProto>,
    inputs: &'a [ValueInfoProto],
    /// What the graph gives, and the names that its nodes have for that.
    outputs: Vec<(&'a ValueInfoProto, &'a str)>,
}

impl<'a> FirstStep<'a> {
    /// A whole graph.
    pub(super) fn of_model(name: &'a str, model: &'a CheckedModel) -> Self {
        let graph = model.graph();
        Self {
            name,
            opsets: &model.opset_import,
            nodes: graph.node.iter().collect(),
            tensors: graph.initializer.iter().collect(),
            inputs: &graph.input,
            outputs: graph.output.iter().map(|output| (output, output.name.as_str())).collect(),
        }
    }

    /// A branch of the `If` that is node `at`.
    pub(super) fn of_branch(
        name: &'a str,
        model: &'a CheckedModel,
        at: usize,
        branch: &'a GraphProto,
    ) -> Self {
        let graph = model.graph();
        let inner = |outer: &str| {
            let place = graph.node[at].output.iter().position(|output| output == outer)?;
            branch.output.get(place).map(|output| output.name.as_str())
        };
        Self {
            name,
            opsets: &model.opset_import,
            nodes: graph.node[..at].iter().chain(&branch.node).collect(),
            tensors: graph.initializer.iter().chain(&branch.initializer).collect(),
            inputs: &graph.input,
            outputs: graph.output.iter().filter_map(|output| Some((output, inner(&output.name)?))).collect(),
        }
    }

    /// Cuts out what makes the encoder's keys and values; none where the decoder does not give them.
    ///
    /// Of the tokens it may read how many rows there are, which what the encoder gives says as well.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] naming a node where more than that is read.
    pub(super) fn keys(&self) -> Result<Option<Keys>> {
        let wanted: Vec<(&ValueInfoProto, &str)> =
            self.outputs.iter().filter(|(output, _)| is_encoder_present(&output.name)).copied().collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let givers: HashMap<&str, usize> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(at, node)| node.output.iter().map(move |output| (output.as_str(), at)))
            .collect();
        let of_tokens = self.of_tokens();
        let mut needed: HashSet<&str> = HashSet::new();
        let mut kept = vec![false; self.nodes.len()];
        // Shapes of what is computed from tokens.
        let mut shapes: HashSet<&str> = HashSet::new();
        let mut open: Vec<&str> = wanted.iter().map(|(_, inner)| *inner).collect();
        while let Some(name) = open.pop() {
            if !needed.insert(name) {
                continue;
            }
            let Some(&at) = givers.get(name) else {
                if of_tokens.contains(name) {
                    return Err(self.reads_tokens(name));
                }
                continue;
            };
            if std::mem::replace(&mut kept[at], true) {
                continue;
            }
            let node = self.nodes[at];
            if node.is("Shape") && node.input(0).is_some_and(|input| of_tokens.contains(input)) {
                shapes.extend(node.output.first().map(String::as_str));
                continue;
            }
            reads(node, &mut |name| open.push(name));
        }
        let is_kept = |at: &usize| kept[*at];
        let tensors: HashMap<&str, &TensorProto> =
            self.tensors.iter().map(|tensor| (tensor.name.as_str(), *tensor)).collect();
        for node in (0..self.nodes.len()).filter(is_kept).map(|at| self.nodes[at]) {
            let reads_shape = node.input.iter().any(|input| shapes.contains(input.as_str()));
            if reads_shape && !self.takes_rows(node, &givers, &tensors) {
                return Err(self.reads_tokens(node.label()));
            }
        }
        let mut nodes: Vec<NodeProto> =
            (0..self.nodes.len()).filter(is_kept).map(|at| self.nodes[at].clone()).collect();
        for node in &mut nodes {
            if node.output.first().is_some_and(|output| shapes.contains(output.as_str())) {
                HIDDEN.clone_into(&mut node.input[0]);
            }
        }
        let tensors = self.tensors.iter().filter(|tensor| needed.contains(tensor.name.as_str()));
        let public = |(output, inner): &(&ValueInfoProto, &str)| ((*output).clone(), (*inner).to_owned());
        Ok(Some(Keys {
            name: self.name.to_owned(),
            opsets: self.opsets.to_vec(),
            nodes,
            tensors: tensors.copied().cloned().collect(),
            outputs: wanted.iter().map(public).collect(),
        }))
    }

    /// What is computed from anything but the encoder's output, its mask and constants.
    fn of_tokens(&self) -> HashSet<&'a str> {
        let inputs = self.inputs.iter().map(|input| input.name.as_str());
        let mut found: HashSet<&str> = inputs.filter(|name| ![HIDDEN, ENCODER_MASK].contains(name)).collect();
        let constants: HashSet<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        found.retain(|name| !constants.contains(name));
        for node in &self.nodes {
            let mut any = false;
            reads(node, &mut |name| any |= found.contains(name));
            if any {
                found.extend(node.output.iter().map(String::as_str));
            }
        }
        found
    }

    /// Whether a node takes of a shape the number of rows alone.
    fn takes_rows(
        &self,
        node: &NodeProto,
        givers: &HashMap<&str, usize>,
        tensors: &HashMap<&str, &TensorProto>,
    ) -> bool {
        let is = |at: usize, expected: i64| {
            node.input(at).is_some_and(|name| {
                let giver = givers.get(name).map(|&at| self.nodes[at]);
                constant(tensors.get(name).copied(), giver).is_some_and(|values| values == [expected])
            })
        };
        if node.is("Gather") {
            return is(1, 0) && node.attribute("axis").is_none_or(|axis| axis.i() == 0);
        }
        node.is("Slice") && is(1, 0) && is(2, 1) && node.input(4).is_none_or(|_| is(4, 1))
    }

    fn reads_tokens(&self, place: &str) -> Error {
        Error::new(ErrorKind::Bundle, "the encoder's keys and values are made of the decoder's tokens")
            .in_graph(self.name, Some(place))
            .help("they must be made of encoder_hidden_states alone, so that they are computed once a text")
    }
}

/// Nodes that make keys and values of what the encoder gives.
pub(super) struct Keys {
    /// The graph that they come from, and the operator sets of their nodes.
    name: String,
    opsets: Vec<OperatorSetIdProto>,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    /// With the names that the nodes have for them.
    outputs: Vec<(ValueInfoProto, String)>,
}

impl Keys {
    /// Puts them behind an encoder; what they give comes behind its outputs.
    ///
    /// - `hidden`: the encoder's output that they read.
    /// - `mask`: the encoder's mask.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if the two graphs are of different operator sets.
    pub(super) fn behind(mut self, model: &mut ModelProto, hidden: &str, mask: Option<&str>) -> Result<()> {
        self.join_opsets(&mut model.opset_import)?;
        let encoder = model.graph.get_or_insert_default();
        let mut names: HashMap<String, String> = HashMap::new();
        {
            let taken = written(encoder);
            let heads: HashSet<&str> =
                taken.iter().filter_map(|name| name.split_once('/')).map(|(head, _)| head).collect();
            let head = |n: usize| if n == 0 { "keys".to_owned() } else { format!("keys{n}") };
            let free = (0..=heads.len()).map(head).find(|head| !heads.contains(head.as_str()));
            let prefix = free.unwrap_or_default() + "/";
            let outputs = self.nodes.iter().flat_map(|node| &node.output);
            for name in outputs.chain(self.tensors.iter().map(|tensor| &tensor.name)) {
                names.insert(name.clone(), format!("{prefix}{name}"));
            }
        }
        // One value may be given under two names, or be what the encoder gives.
        let mut twice = Vec::new();
        let mut given: HashSet<&str> = HashSet::new();
        for (output, inner) in &self.outputs {
            match names.get_mut(inner).filter(|_| given.insert(inner)) {
                Some(new) => new.clone_from(&output.name),
                None => twice.push((inner.clone(), output.name.clone())),
            }
        }
        names.insert(HIDDEN.to_owned(), hidden.to_owned());
        if let Some(mask) = mask {
            names.insert(ENCODER_MASK.to_owned(), mask.to_owned());
        }
        self.nodes.iter_mut().for_each(|node| rename(node, &names));
        for tensor in &mut self.tensors {
            if let Some(new) = names.get(&tensor.name) {
                tensor.name.clone_from(new);
            }
        }
        for node in &mut self.nodes {
            // Names of nodes need not be unique, and some tools want that they are.
            node.name.insert_str(0, "keys/");
        }
        encoder.node.append(&mut self.nodes);
        for (inner, output) in twice {
            let from = names.get(&inner).unwrap_or(&inner);
            encoder.node.push(node("Identity", &[from], &output, []));
        }
        encoder.initializer.append(&mut self.tensors);
        encoder.output.extend(self.outputs.into_iter().map(|(output, _)| output));
        Ok(())
    }

    /// One graph has one version of each operator set.
    fn join_opsets(&self, opsets: &mut Vec<OperatorSetIdProto>) -> Result<()> {
        let standard = |domain: &str| if domain == "ai.onnx" { "" } else { domain }.to_owned();
        let used: HashSet<String> = self.nodes.iter().map(|node| standard(&node.domain)).collect();
        for own in self.opsets.iter().filter(|own| used.contains(&standard(&own.domain))) {
            match opsets.iter().find(|there| standard(&there.domain) == standard(&own.domain)) {
                None => opsets.push(own.clone()),
                Some(there) if there.version == own.version => {}
                Some(there) => {
                    let message = format!(
                        "operator set {} where the encoder has {}: they come from two exports",
                        own.version, there.version
                    );
                    return Err(Error::new(ErrorKind::Bundle, message)
                        .in_graph(&self.name, None)
                        .help("export encoder and decoder together"));
                }
            }
        }
        Ok(())
    }
}
