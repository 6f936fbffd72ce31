//! The schema of the section `training`.

use serde_json::{Value, json};

use super::forms::{choice, count, flag, number, section};
use crate::config::callbacks::{Monitor, SCORES};
use crate::config::training::TOKENISATIONS;

/// Every key that a training can have; a perceptron has some of them.
pub(super) fn training() -> Value {
    let positive = json!({ "exclusiveMinimum": 0 });
    let decay = json!({ "minimum": 0, "exclusiveMaximum": 1 });
    let adam = section(
        "Adam and its constants.",
        &["name"],
        &json!({
            "name": choice("The optimiser.", &["adam"]),
            "beta_1": number("Decay of the first moment.", &decay),
            "beta_2": number("Decay of the second moment.", &decay),
            "epsilon": number("Added to the root of the second moment.", &positive),
        }),
    );
    section(
        "How it is trained.",
        &["epochs", "batch_size", "learning_rate"],
        &json!({
            "epochs": count("Passes over the training pairs.", 1, None),
            "batch_size": count("Pairs a step.", 1, None),
            "batches": choice("How batches are put together.", &["shuffled", "bucketed"]),
            "seed": count("Of weights, shuffling and split.", 0, Some(1)),
            "threads": { "description": "Worker threads.", "oneOf": [{ "enum": ["auto"] }, count("A number.", 1, None)], "default": "auto" },
            "learning_rate": number("Step size.", &positive),
            "schedule": schedule(),
            "reduce_lr_on_plateau": reduce_on_plateau(),
            "early_stopping": early_stopping(),
            "optimiser": { "oneOf": [{ "enum": ["adam"] }, adam] },
            "clip_norm": number("The gradient's L2 norm is scaled down to this.", &positive),
            "dropout": number("Probability of dropping a value of a layer's input.", &decay),
            "label_smoothing": number("Probability spread over all symbols instead of the target.", &decay),
            "exact_match": section("Validation sources decoded through the exported graphs.", &[], &json!({
                "sample": count("How many.", 0, Some(500)),
                "every": count("After every so many epochs.", 1, Some(1)),
            })),
            "scores": {
                "description": "What the decoded texts are scored by.",
                "type": "array",
                "items": choice("A score.", &SCORES.map(|(name, _)| name)),
                "default": ["exact_match", "token_error_rate"],
            },
            "bleu_tokenise": choice("How BLEU cuts texts into words; sacreBLEU's names.", &TOKENISATIONS.map(|(name, _)| name)),
            "best": choice("What decides which epoch is checkpoints/best.", &Monitor::names()),
            "terminate_on_nan": flag("A loss that is not finite ends the training; else its batch is left out.", true),
            "csv_logger": flag("Write metrics.csv beside metrics.jsonl.", false),
            "tensorboard": flag("Write event files for TensorBoard.", false),
            "examples": count("Decoded examples printed at the end, of each set.", 0, Some(10)),
        }),
    )
}

fn schedule() -> Value {
    let shapes = ["constant", "cosine", "linear"];
    let span = |about: &str| {
        let part = [
            section("Optimiser steps.", &["steps"], &json!({ "steps": count("A number.", 1, None) })),
            section(
                "Epochs.",
                &["epochs"],
                &json!({ "epochs": number("Whole or not.", &json!({ "exclusiveMinimum": 0 })) }),
            ),
        ];
        json!({ "description": about, "oneOf": part })
    };
    let keys = json!({
        "name": choice("What follows the warm-up: it stays, half a cosine, a line.", &shapes),
        "warmup": span("The learning rate rises in equal steps for so long."),
        "decay": span("It falls for so long; the rest of the training where it is left out."),
        "floor": number("The learning rate that it falls to.", &json!({ "minimum": 0, "default": 0 })),
    });
    json!({ "description": "How the learning rate moves.", "oneOf": [{ "enum": shapes }, section("A schedule.", &[], &keys)] })
}

fn watched(about: &str, min_delta: f64, patience: u32, more: &Value) -> Value {
    let mut keys = json!({
        "monitor": choice("What is watched; what `best` says where it is left out.", &Monitor::names()),
        "mode": choice("Whether less or more of it is better; auto knows.", &["auto", "min", "max"]),
        "min_delta": number("Smaller changes are none.", &json!({ "minimum": 0, "default": min_delta })),
        "patience": count("Epochs without a better one.", 0, Some(patience)),
    });
    if let (Some(keys), Some(more)) = (keys.as_object_mut(), more.as_object()) {
        keys.extend(more.clone());
    }
    section(about, &[], &keys)
}

fn reduce_on_plateau() -> Value {
    let more = json!({
        "factor": number("Multiplies the learning rate.", &json!({ "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.1 })),
        "cooldown": count("Epochs after a reduction that are not watched.", 0, Some(0)),
        "min_lr": number("The learning rate goes no lower.", &json!({ "minimum": 0, "default": 0 })),
    });
    watched("A lower learning rate where epochs are no better.", 1e-4, 10, &more)
}

fn early_stopping() -> Value {
    let more = json!({
        "baseline": number("Better epochs count only once they are better than this.", &json!({})),
        "restore_best_weights": { "description": "End with the weights of checkpoints/best.", "type": "boolean", "default": false },
        "start_from_epoch": count("The first so many epochs are not watched.", 0, Some(0)),
    });
    watched("An end where epochs are no better.", 0.0, 0, &more)
}
