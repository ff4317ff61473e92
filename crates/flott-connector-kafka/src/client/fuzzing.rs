//! What brokers answer, for the fuzz targets of the workspace and for nobody else.

use super::connection::Connection;
use super::coordinator::Coordinators;
use super::{CommitOutcome, TransactionHandle};
use crate::config::Properties;
use flott_types::Result;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What a coordinator is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which transactions are open.
    OpenTransactions,
    /// Whether one is open.
    OpenTransaction,
    /// To commit one.
    Commit,
    /// To abort one.
    Abort,
    /// As the last one, at a listener that asks for user and password.
    AbortWithPassword,
}

/// All of them.
pub const QUESTIONS: [Question; 5] = [
    Question::OpenTransactions,
    Question::OpenTransaction,
    Question::Commit,
    Question::Abort,
    Question::AbortWithPassword,
];

/// Asks brokers whose answers, all in a row, are `answers`, and returns what that came to.
///
/// # Errors
/// If these are no answers to the question.
pub fn ask(question: Question, answers: &[u8]) -> Result<String> {
    let mut properties = Properties::default();
    properties.set("bootstrap.servers", "broker:9092");
    // What passes is not tried again.
    properties.set("request.timeout.ms", "1");
    if question == Question::AbortWithPassword {
        properties.set("security.protocol", "SASL_PLAINTEXT");
        properties.set("sasl.mechanism", "PLAIN");
        properties.set("sasl.username", "user");
        properties.set("sasl.password", "password");
    }
    let answers = Transcript(Arc::new(Mutex::new(Cursor::new(answers.to_vec()))));
    let connect = move |server: &str, properties: &Properties| {
        Connection::begin(Box::new(answers.clone()), server, properties)
    };
    let coordinators = Coordinators::with_connections(properties, Box::new(connect));
    let id = "id-0";
    match question {
        Question::OpenTransactions => {
            coordinators.await_ends("id")?;
            Ok(coordinators.open_transactions("id")?.join(" "))
        }
        Question::OpenTransaction => {
            let found = coordinators.open_transaction(id)?;
            Ok(found.map_or_else(String::new, |found| format!("{} {}", found.producer_id, found.epoch)))
        }
        Question::Commit => {
            let transaction = TransactionHandle { transactional_id: id.to_owned(), producer_id: 1, epoch: 2 };
            Ok(match coordinators.commit(&transaction)? {
                CommitOutcome::Committed => "committed".to_owned(),
                CommitOutcome::Lost(why) => why,
                CommitOutcome::Unknown => "unknown".to_owned(),
            })
        }
        Question::Abort | Question::AbortWithPassword => {
            coordinators.abort(id)?;
            Ok("aborted".to_owned())
        }
    }
}

/// The same answers on all connections, one behind the other.
#[derive(Clone)]
struct Transcript(Arc<Mutex<Cursor<Vec<u8>>>>);

impl Read for Transcript {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

impl Write for Transcript {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
