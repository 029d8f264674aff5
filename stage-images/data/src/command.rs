//! The command line: `millrace-data <stage> --params JSON`.

use crate::workplace::{Workplace, WorkplaceError};
use crate::{
    engine, evaluate, features, ingest, look, params, payload_log, predict, profile, say, transform, validate,
};

const USAGE: &str = "usage: millrace-data ingest|validate|transform|features|profile|evaluate|predict|look|payload-log --params JSON [--param NAME=TEXT]...";

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{found}; {USAGE}")]
    Usage { found: String },
    #[error("failed to start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Params(#[from] params::ParamsError),
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Ingest(#[from] ingest::IngestError),
    #[error(transparent)]
    Validate(#[from] validate::ValidateError),
    #[error(transparent)]
    Transform(#[from] transform::TransformError),
    #[error(transparent)]
    Features(#[from] features::FeaturesError),
    #[error(transparent)]
    Profile(#[from] profile::ProfileError),
    #[error(transparent)]
    Evaluate(#[from] evaluate::EvaluateError),
    #[error(transparent)]
    Predict(#[from] predict::PredictError),
    #[error(transparent)]
    Look(#[from] look::LookError),
    #[error(transparent)]
    PayloadLog(#[from] payload_log::PayloadLogError),
}

/// Runs the stage that the arguments name, with the inputs and outputs that the environment names.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<(), CommandError> {
    let (stage, json) = parse(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(engine::threads())
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    let place = Workplace::from_environment();
    runtime.block_on(async {
        match stage {
            Stage::Ingest => ingest::run(&params::parse("ingest", &json)?, &place).await?,
            Stage::Validate => validate::run(&params::parse("validate", &json)?, &place).await?,
            Stage::Transform => transform::run(&params::parse("transform", &json)?, &place).await?,
            Stage::Features => features::run(&params::parse("features", &json)?, &place).await?,
            Stage::Profile => profile::run(&params::parse("profile", &json)?, &place).await?,
            Stage::Evaluate => evaluate::run(&params::parse("evaluate", &json)?, &place)?,
            Stage::Predict => predict::run(&params::parse("predict", &json)?, &place)?,
            Stage::Look => look::run(&params::parse("look", &json)?).await?,
            Stage::PayloadLog => payload_log::run(&params::parse("payload-log", &json)?).await?,
        }
        Ok(())
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ingest,
    Validate,
    Transform,
    Features,
    Profile,
    Evaluate,
    Predict,
    /// No stages of a pipeline: the operator starts them.
    Look,
    PayloadLog,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Stage, String), CommandError> {
    let usage = |found: String| CommandError::Usage { found };
    let stage = match arguments.next().as_deref() {
        Some("ingest") => Stage::Ingest,
        Some("validate") => Stage::Validate,
        Some("transform") => Stage::Transform,
        Some("features") => Stage::Features,
        Some("profile") => Stage::Profile,
        Some("evaluate") => Stage::Evaluate,
        Some("predict") => Stage::Predict,
        Some("look") => Stage::Look,
        Some("payload-log") => Stage::PayloadLog,
        Some(other) => return Err(usage(format!("there is no stage `{other}`"))),
        None => return Err(usage("no stage is named".into())),
    };
    let mut json = None;
    let mut single = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--params" => json = Some(arguments.next().ok_or_else(|| usage("--params has no value".into()))?),
            "--param" => single.push(arguments.next().ok_or_else(|| usage("--param has no value".into()))?),
            other => return Err(usage(format!("unknown argument `{other}`"))),
        }
    }
    let mut json = json.ok_or_else(|| usage("--params is missing".into()))?;
    for parameter in single {
        let (name, text) = parameter
            .split_once('=')
            .ok_or_else(|| usage(format!("--param {} is not NAME=TEXT", say::excerpt(&parameter, 60))))?;
        json = params::with_text(&json, name, text);
    }
    Ok((stage, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(Stage, String), String> {
        parse(arguments.iter().map(ToString::to_string)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stage_and_its_parameters_are_read() {
        assert_eq!(parsed(&["ingest", "--params", "{}"]), Ok((Stage::Ingest, "{}".into())));
        // The text of a parameter is its text, whatever is in it.
        let found = parsed(&["ingest", "--params", r#"{"a":{"c":1}}"#, "--param", r#"a.b=x","source":"=y"#]);
        let found: serde_json::Value = serde_json::from_str(&found.unwrap().1).unwrap();
        assert_eq!(found, serde_json::json!({ "a": { "c": 1, "b": "x\",\"source\":\"=y" } }));
    }

    #[test]
    fn a_wrong_command_line_says_what_to_write() {
        for wrong in [
            &["bake"][..],
            &[],
            &["ingest"],
            &["ingest", "--params"],
            &["ingest", "--verbose"],
            &["ingest", "--params", "{}", "--param", "x"],
        ] {
            assert!(parsed(wrong).unwrap_err().contains("usage: millrace-data ingest|validate"), "{wrong:?}");
        }
    }
}
