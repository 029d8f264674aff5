//! What a source has that is new goes into a table, with the position that was reached in the same commit.

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::database::Address;
use super::kafka::Topic;
use super::params::{Params, TableParams};
use super::position::Since;
use super::{IngestError, read, report};
use crate::say;
use crate::table::{Batch, Table};
use crate::workplace::Workplace;

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(
        "parameter table: nobody can say what of the source is new; write sql.watermark, so that the table keeps how far it was read"
    )]
    NoPosition,
    #[error(
        "parameter table: found a source of {count} files, expected one, because with a new file all of them would be appended again; write one file, a stage with forEach over the files, or take a database, a topic or a Delta table"
    )]
    SeveralFiles { count: usize },
    #[error("parameter {parameter}: it is for a table at {expected}, and the table is elsewhere; leave it out")]
    OtherCloud { parameter: &'static str, expected: &'static str },
    #[error("failed to make a temporary folder")]
    Temporary(#[source] std::io::Error),
}

/// Runs the stage with a table as its end. There is no output `data`: what an attempt appended is in the table, and not what another reads.
pub async fn run(params: &Params, target: &TableParams, place: &Workplace) -> Result<(), IngestError> {
    if params.sql.as_ref().is_some_and(|sql| sql.watermark.is_none()) {
        return Err(AppendError::NoPosition.into());
    }
    of_one_cloud(&target.uri, target.s3.is_some(), target.gcs.is_some(), target.azure.is_some())?;
    let table = Table::at(&target.uri, &target.access(params))?;
    let source = identity(params, target);
    let snapshot = table.last().await?;
    let before = match &snapshot {
        Some(snapshot) => table.marked(snapshot, &source).await?,
        None => None,
    };
    let reached = before.as_ref().map(|before| before.mark.position.clone());
    let folder = TempDir::new().map_err(AppendError::Temporary)?;
    let staged = folder.path().join("new");
    let mut read = read(params, &Since::new(reached.clone()), &staged).await?;
    // A source that is read as a whole has nothing new if it is what it was.
    if reached.is_some() && read.position == reached {
        read.rows = 0;
    }
    let run = this_run();
    // What an earlier attempt of this stage has appended, which was not there to tell of it, counts too.
    let rows_before = before.as_ref().filter(|before| run.is_some() && before.mark.run == run);
    let rows_before = rows_before.map_or(0, |before| before.mark.rows);
    let position = read.position.clone().or(reached.clone());
    let appended = match &position {
        Some(position) if read.rows > 0 || (before.is_some() && Some(position) != reached.as_ref()) => {
            let batch = Batch {
                source: &source,
                after: before.as_ref().map(|before| before.version),
                staged: &staged,
                rows: read.rows,
                run: run.as_deref(),
                rows_before,
                position,
            };
            Some(table.append(snapshot, &batch, &folder.path().join("files")).await?)
        }
        None if read.rows > 0 => return Err(AppendError::NoPosition.into()),
        _ => None,
    };
    // Where nothing is new, what was appended last: also by an attempt that could not tell of it any more.
    let version = appended.as_ref().map(|appended| appended.version);
    let version = version.or_else(|| before.as_ref().and_then(|before| u64::try_from(before.version).ok()));
    if let Some(version) = version {
        read.results.push(("table_version", json!(version.to_string())));
    }
    read.results.push(("table", json!(target.uri)));
    read.rows += rows_before;
    report(place, &read)?;
    say::line(match &appended {
        Some(appended) if appended.created => format!("made the table {}", target.uri),
        Some(appended) => format!("version {} of {}", appended.version, target.uri),
        None => format!("nothing is new for {}", target.uri),
    });
    Ok(())
}

/// How a bucket is reached is said of the cloud that it is in.
pub fn of_one_cloud(uri: &str, s3: bool, gcs: bool, azure: bool) -> Result<(), AppendError> {
    for (parameter, given, schemes) in [
        ("table.s3", s3, &["s3://"][..]),
        ("table.gcs", gcs, &["gs://"]),
        ("table.azure", azure, &["az://", "abfs://", "abfss://"]),
    ] {
        if given && !schemes.iter().any(|scheme| uri.starts_with(scheme)) {
            return Err(AppendError::OtherCloud { parameter, expected: schemes[0] });
        }
    }
    Ok(())
}

/// The run and its stage, in every attempt of theirs.
fn this_run() -> Option<String> {
    let of = ["MILLRACE_NAMESPACE", "MILLRACE_RUN", "MILLRACE_STAGE"].map(|name| std::env::var(name).ok());
    of.into_iter().collect::<Option<Vec<_>>>().map(|of| of.join("/"))
}

/// Under which name the table keeps the position: the one that is given, or one of what is read.
fn identity(params: &Params, target: &TableParams) -> String {
    if let Some(name) = &target.position {
        return format!("millrace/{name}");
    }
    let sql = params.sql.as_ref();
    let read = json!([
        origin(&params.source),
        sql.and_then(|sql| sql.query.as_ref()),
        sql.and_then(|sql| sql.table.as_ref()),
        sql.and_then(|sql| sql.watermark.as_ref()).map(|watermark| &watermark.column),
    ]);
    let digest = format!("{:x}", Sha256::digest(read.to_string()));
    format!("millrace/{}", &digest[..16])
}

/// What of an address says which data it is: who reads it, and by which broker, may change.
fn origin(source: &str) -> String {
    if let Ok(Some(topic)) = Topic::parse(source) {
        return format!("kafka:{}", topic.topic);
    }
    match Address::parse(source) {
        Ok(Some(Address::Postgres(server))) => format!("postgresql://{}", server.name()),
        Ok(Some(Address::Mysql(server))) => format!("mysql://{}", server.name()),
        _ => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse;

    #[test]
    fn a_source_has_its_own_position_in_a_table() {
        let of = |params: &str| {
            let params: Params = parse("ingest", params).unwrap();
            identity(&params, params.table.as_ref().unwrap())
        };
        let orders = of(
            r#"{"source": "sqlite:/a", "sql": {"table": "t", "watermark": {"column": "id", "above": 3}}, "table": {"uri": "/t"}}"#,
        );
        let later = of(
            r#"{"source": "sqlite:/a", "sql": {"table": "t", "watermark": {"column": "id"}}, "table": {"uri": "/t"}}"#,
        );
        assert_eq!(orders, later);
        let other = of(
            r#"{"source": "sqlite:/a", "sql": {"table": "u", "watermark": {"column": "id"}}, "table": {"uri": "/t"}}"#,
        );
        assert_ne!(orders, other);
        assert_eq!(of(r#"{"source": "/a.csv", "table": {"uri": "/t", "position": "shop"}}"#), "millrace/shop");
    }

    #[test]
    fn who_reads_a_source_and_how_does_not_change_its_position() {
        for (one, other) in [
            ("postgresql://reader@db/shop", "postgres://other@db:5432/shop"),
            ("mysql://db/shop", "mariadb://me@db:3306/shop"),
            ("kafka://a,b/orders", "kafka://c:9092/orders"),
        ] {
            assert_eq!(origin(one), origin(other));
        }
        assert_ne!(origin("postgresql://db/shop"), origin("postgresql://db:6543/shop"));
        assert_ne!(origin("kafka://a/orders"), origin("kafka://a/clicks"));
        assert_eq!(origin("/data/a.csv"), "/data/a.csv");
    }
}
