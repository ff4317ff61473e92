//! People.

use crate::record::{City, State};
use crate::text::{Field, Letters};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

/// The mean size of a person, as the benchmark counts it.
const SIZE_MEAN: usize = 200;

/// Somebody has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Person {
    /// The person.
    pub id: u64,
    /// When.
    pub date_time: Timestamp,
    /// What the strings are made from.
    pub seed: u32,
    /// Where the person lives.
    pub city: City,
    /// The state, which has nothing to do with the city.
    pub state: State,
}

impl Person {
    /// First and last name.
    pub fn name(&self) -> String {
        let mut letters = Letters::new(self.seed, Field::Name);
        format!("{} {}", letters.one_of(&FIRST_NAMES), letters.one_of(&LAST_NAMES))
    }

    /// The address for mail.
    pub fn email(&self) -> String {
        let mut letters = Letters::new(self.seed, Field::Email);
        format!("{}@{}.com", letters.string(7, '_'), letters.string(5, '_'))
    }

    /// Four groups of four digits.
    pub fn credit_card(&self) -> String {
        let mut letters = Letters::new(self.seed, Field::CreditCard);
        let [a, b, c, d] = std::array::from_fn(|_| letters.below(10_000));
        format!("{a:04} {b:04} {c:04} {d:04}")
    }

    /// Padding.
    pub fn extra(&self) -> String {
        let strings = [self.name(), self.email(), self.credit_card()];
        let names = self.city.name().len() + self.state.name().len();
        let size = 8 + names + strings.iter().map(String::len).sum::<usize>();
        Letters::new(self.seed, Field::Extra).extra(size, SIZE_MEAN)
    }
}
