//! The names of the queries.

use flott_types::Error;
use std::fmt;
use std::str::FromStr;

/// A query of the Nexmark benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// Pass through.
    Q0,
    /// Currency conversion.
    Q1,
    /// Selection.
    Q2,
    /// Local item suggestion.
    Q3,
    /// Average price for a category.
    Q4,
    /// Hot items.
    Q5,
    /// Highest bid.
    Q7,
    /// Monitor new users.
    Q8,
    /// User sessions.
    Q11,
    /// Processing-time windows.
    Q12,
}

/// Name, what it is about and SQL of a query.
struct Description {
    name: &'static str,
    title: &'static str,
    sql: &'static str,
}

impl Query {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Q0,
        Self::Q1,
        Self::Q2,
        Self::Q3,
        Self::Q4,
        Self::Q5,
        Self::Q7,
        Self::Q8,
        Self::Q11,
        Self::Q12,
    ];

    /// The name: `q5`.
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// What it is about, in a few words.
    pub const fn title(self) -> &'static str {
        self.description().title
    }

    /// What it computes, in Flink's SQL; the typed programs differ in what
    /// [`flott_connector_nexmark::queries`] says.
    pub const fn sql(self) -> &'static str {
        self.description().sql
    }

    const fn description(self) -> Description {
        let (name, title, sql) = match self {
            Self::Q0 => ("q0", "pass through", "SELECT auction, bidder, price, date_time, extra FROM bid"),
            Self::Q1 => (
                "q1",
                "currency conversion",
                "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid",
            ),
            Self::Q2 => ("q2", "selection", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
            Self::Q3 => (
                "q3",
                "local item suggestion",
                "SELECT P.name, P.city, P.state, A.id \
                 FROM auction AS A INNER JOIN person AS P ON A.seller = P.id \
                 WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')",
            ),
            Self::Q4 => (
                "q4",
                "average price for a category",
                "SELECT Q.category, AVG(Q.final) FROM ( \
                 SELECT MAX(B.price) AS final, A.category FROM auction A, bid B \
                 WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires \
                 GROUP BY A.id, A.category) Q GROUP BY Q.category",
            ),
            Self::Q5 => (
                "q5",
                "hot items",
                "SELECT AuctionBids.auction, AuctionBids.num FROM ( \
                 SELECT auction, COUNT(*) AS num, window_start AS starttime, window_end AS endtime \
                 FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) \
                 GROUP BY auction, window_start, window_end) AS AuctionBids JOIN ( \
                 SELECT MAX(CountBids.num) AS maxn, CountBids.starttime, CountBids.endtime FROM ( \
                 SELECT COUNT(*) AS num, window_start AS starttime, window_end AS endtime \
                 FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) \
                 GROUP BY auction, window_start, window_end) AS CountBids \
                 GROUP BY CountBids.starttime, CountBids.endtime) AS MaxBids \
                 ON AuctionBids.starttime = MaxBids.starttime AND AuctionBids.endtime = MaxBids.endtime \
                 AND AuctionBids.num >= MaxBids.maxn",
            ),
            Self::Q7 => (
                "q7",
                "highest bid",
                "SELECT B.auction, B.bidder, B.price, B.date_time, B.extra FROM bid B JOIN ( \
                 SELECT MAX(price) AS maxprice, window_end AS date_time \
                 FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) \
                 GROUP BY window_start, window_end) B1 ON B.price = B1.maxprice \
                 WHERE B.date_time BETWEEN B1.date_time - INTERVAL '10' SECOND AND B1.date_time",
            ),
            Self::Q8 => (
                "q8",
                "monitor new users",
                "SELECT P.id, P.name, P.starttime FROM ( \
                 SELECT id, name, window_start AS starttime, window_end AS endtime \
                 FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) \
                 GROUP BY id, name, window_start, window_end) P JOIN ( \
                 SELECT seller, window_start AS starttime, window_end AS endtime \
                 FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) \
                 GROUP BY seller, window_start, window_end) A \
                 ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime",
            ),
            Self::Q11 => (
                "q11",
                "user sessions",
                "SELECT bidder, COUNT(*) AS bid_count, SESSION_START(date_time, INTERVAL '10' SECOND) AS starttime, \
                 SESSION_END(date_time, INTERVAL '10' SECOND) AS endtime \
                 FROM bid GROUP BY bidder, SESSION(date_time, INTERVAL '10' SECOND)",
            ),
            Self::Q12 => (
                "q12",
                "processing-time windows",
                "SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime \
                 FROM TABLE(TUMBLE(TABLE B, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) \
                 GROUP BY bidder, window_start, window_end",
            ),
        };
        Description { name, title, sql }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Query {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|query| query.name() == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|query| query.name()).collect();
            Error::user(format!("there is no nexmark query '{name}'; there are {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for query in Query::ALL {
            assert_eq!(query.to_string().parse::<Query>().unwrap(), query);
            assert!(query.sql().starts_with("SELECT"));
        }
        assert_eq!(
            "q6".parse::<Query>().unwrap_err().to_string(),
            "there is no nexmark query 'q6'; there are q0, q1, q2, q3, q4, q5, q7, q8, q11, q12"
        );
    }
}
