//! The statements of the sources, and no others.

use super::{Snapshot, State};
use crate::decode::elements;

/// The table's number, and that of the type of its only column.
pub(super) const OID: u32 = 16_384;
pub(super) const TYPE_OID: u32 = 20;
const TEXT_OID: u32 = 25;

/// SQLSTATE and message.
pub(super) struct Refusal(pub(super) String, pub(super) String);

impl Refusal {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self(code.to_owned(), message.into())
    }
}

#[derive(Default)]
pub(super) struct Answer {
    pub(super) columns: Vec<(String, u32)>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Rows of texts.
fn texts<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Answer {
    let columns = (0..N).map(|idx| (format!("column_{idx}"), TEXT_OID)).collect();
    Answer { columns, rows: rows.into_iter().map(Vec::from).collect() }
}

fn row<const N: usize>(cells: [&str; N]) -> Answer {
    texts([cells.map(str::to_owned)])
}

impl State {
    pub(super) fn execute(&mut self, pid: u32, sql: &str, parameters: &[String]) -> Result<Answer, Refusal> {
        let begins = |with: &str| sql.starts_with(with);
        let parameter = |idx: usize| parameters.get(idx).map(String::as_str).unwrap_or_default();
        Ok(match sql {
            "SHOW wal_level" => row(["logical"]),
            "SELECT pg_current_wal_insert_lsn()" => row([&self.log_end.to_string()]),
            "SELECT pg_current_snapshot()::text" => row([&self.snapshot_of(pid).to_string()]),
            "COMMIT" | "ROLLBACK" => {
                self.end_transaction(pid);
                Answer::default()
            }
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" => {
                let snapshot = self.snapshot();
                if let Some(session) = self.sessions.get_mut(&pid) {
                    session.snapshot = Some(snapshot);
                }
                Answer::default()
            }
            _ if begins("SELECT c.oid, c.relkind") => row([&OID.to_string(), "r", "f", "public", "items"]),
            _ if begins("SELECT a.attname, format_type") => {
                row(["id", "bigint", &TYPE_OID.to_string(), "t", "", "f"])
            }
            _ if begins("SELECT a.attname FROM pg_index") => row(["id"]),
            _ if begins("SELECT 1 FROM pg_publication") => {
                texts(self.has_publication.then_some(["1".to_owned()]))
            }
            _ if begins("CREATE PUBLICATION") && self.has_publication => {
                return Err(Refusal::new("42710", "the publication exists"));
            }
            _ if begins("CREATE PUBLICATION") => {
                self.make_publication();
                Answer::default()
            }
            _ if begins("SELECT COALESCE(plugin, '')") => texts(self.slot.as_ref().map(|slot| {
                ["pgoutput", "db", "db", &slot.confirmed.to_string(), "reserved"].map(str::to_owned)
            })),
            _ if begins("SELECT lsn FROM pg_create_logical_replication_slot") => {
                if self.slot.is_some() {
                    return Err(Refusal::new("42710", "the slot exists"));
                }
                row([&self.make_slot().to_string()])
            }
            _ if begins("SELECT pg_terminate_backend") => {
                let reader = self.slot.as_ref().and_then(|slot| slot.active);
                let name = |pid: &u32| &self.sessions[pid].application_name;
                let ended = reader.filter(|reader| name(reader) == parameter(1));
                ended.iter().for_each(|pid| self.terminate(*pid));
                texts(ended.map(|_| ["t", ""].map(str::to_owned)))
            }
            "SELECT pg_sleep(0.1)" => row([""]),
            _ if begins("SELECT \"id\"::text AS flott_key_0, \"id\" FROM \"items\"") => {
                let (after, n_rows) = (parameter(0).parse().ok(), number_behind(sql, "LIMIT "));
                let ids = self.rows_of(pid, after, None, n_rows as usize);
                let columns = vec![("flott_key_0".to_owned(), TEXT_OID), ("id".to_owned(), TYPE_OID)];
                Answer { columns, rows: ids.map(|id| vec![id.clone(), id]).collect() }
            }
            _ if begins("SELECT CASE WHEN") => regions(sql, parameters),
            _ if begins("EXPLAIN SELECT FROM \"items\"") => row(["Seq Scan on items"]),
            _ if begins("SELECT min(\"id\"), max(\"id\")") => {
                let snapshot = self.snapshot_of(pid);
                let ids = self.visible(&snapshot);
                let bound = |id: Option<&i64>| id.map_or(String::new(), i64::to_string);
                texts([[bound(ids.first()), bound(ids.last())]])
            }
            _ if begins("SELECT *, \"id\"::text AS flott_key") => {
                let bound = |operator: &str| {
                    let at = format!("\"id\" {operator} $");
                    let idx = sql.contains(&at).then(|| number_behind(sql, &at) as usize - 1)?;
                    parameter(idx).parse().ok()
                };
                let n_rows = number_behind(sql, "FETCH FIRST ") as usize;
                let ids = self.rows_of(pid, bound(">"), bound("<="), n_rows);
                let columns = vec![("id".to_owned(), TYPE_OID), ("flott_key".to_owned(), TEXT_OID)];
                Answer { columns, rows: ids.map(|id| vec![id.clone(), id]).collect() }
            }
            _ => return Err(Refusal::new("42601", format!("no statement of this server: {sql}"))),
        })
    }

    /// That of the open transaction, or else one for this statement.
    fn snapshot_of(&mut self, pid: u32) -> Snapshot {
        let open = self.sessions.get(&pid).and_then(|session| session.snapshot.clone());
        open.unwrap_or_else(|| self.snapshot())
    }

    fn end_transaction(&mut self, pid: u32) {
        if let Some(session) = self.sessions.get_mut(&pid) {
            session.snapshot = None;
        }
    }

    fn rows_of(
        &mut self,
        pid: u32,
        after: Option<i64>,
        upto: Option<i64>,
        n_rows: usize,
    ) -> impl Iterator<Item = String> + use<> {
        let snapshot = self.snapshot_of(pid);
        let is_in = move |id: &i64| after.is_none_or(|it| *id > it) && upto.is_none_or(|it| *id <= it);
        self.visible(&snapshot).into_iter().filter(is_in).take(n_rows).map(|id| id.to_string())
    }
}

impl std::fmt::Display for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let xmin = self.in_progress.first().copied().unwrap_or(self.xmax);
        let list: Vec<String> = self.in_progress.iter().map(u32::to_string).collect();
        write!(f, "{xmin}:{}:{}", self.xmax, list.join(","))
    }
}

fn number_behind(sql: &str, text: &str) -> u64 {
    let rest = sql.split_once(text).map(|(_, rest)| rest).unwrap_or_default();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Where keys are: they are the first parameter, and the bounds are those behind it.
fn regions(sql: &str, parameters: &[String]) -> Answer {
    let (keys, bounds) = parameters.split_first().unwrap();
    let mut bounds = bounds.iter().map(|bound| bound.parse::<i64>().unwrap());
    let [ahead, chunk] = ["CASE WHEN ", "'ahead' WHEN "].map(|text| sql.split_once(text).unwrap().1);
    let mut is_behind = |condition: &str| {
        let bound = if condition.starts_with('(') { bounds.next() } else { None };
        let is_always = condition.starts_with("true");
        move |id: i64| bound.map_or(is_always, |bound| id > bound)
    };
    let (is_ahead, is_in_chunk) = (is_behind(ahead), is_behind(chunk));
    let region = |key: Option<String>| {
        let id = key.unwrap().parse().unwrap();
        let region = match (is_ahead(id), is_in_chunk(id)) {
            (true, _) => "ahead",
            (false, true) => "chunk",
            (false, false) => "passed",
        };
        [region.to_owned()]
    };
    texts(elements(keys).unwrap().into_iter().map(region))
}
