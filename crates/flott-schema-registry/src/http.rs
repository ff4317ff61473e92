//! A question to a server and its answer.

use crate::config::{Config, Secret};
use flott_types::{Error, Result};
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// More than that is no schema.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

#[derive(Debug)]
pub(crate) struct Http {
    agent: Agent,
    authorization: Option<Secret>,
}

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let mut builder = Agent::config_builder()
            .timeout_global(Some(config.request_timeout))
            .http_status_as_error(false)
            // A redirect may lead to who must not see the password.
            .max_redirects(0)
            .user_agent("flott");
        if let Some(pem) = &config.root_certificates {
            let certificates = parse_pem(pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            });
            let certificates = certificates.collect::<Result<Vec<_>, _>>();
            let certificates = certificates.map_err(|error| {
                Error::user("cannot read the root certificates for the schema registry").with_source(error)
            })?;
            if certificates.is_empty() {
                return Err(Error::user(
                    "the root certificates for the schema registry have no certificate in PEM in them",
                ));
            }
            let roots = RootCerts::new_with_certs(&certificates);
            builder = builder.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { agent: builder.build().into(), authorization: config.authorization.clone() })
    }

    /// Asks, or posts if there is a body.
    pub(crate) fn ask(&self, url: &str, body: Option<&[u8]>) -> Result<Answer, ureq::Error> {
        let authorization = self.authorization.as_ref().map(|Secret(value)| value.as_str());
        let mut response = match body {
            None => {
                let mut request = self.agent.get(url).header("accept", CONTENT_TYPE);
                if let Some(authorization) = authorization {
                    request = request.header("authorization", authorization);
                }
                request.call()?
            }
            Some(body) => {
                let mut request =
                    self.agent.post(url).header("accept", CONTENT_TYPE).header("content-type", CONTENT_TYPE);
                if let Some(authorization) = authorization {
                    request = request.header("authorization", authorization);
                }
                request.send(body)?
            }
        };
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Answer { status, body })
    }
}

/// Waits before a question is asked again.
#[expect(clippy::disallowed_methods, reason = "a client of a server outside; formats know no environment")]
pub(crate) fn wait(duration: Duration) {
    std::thread::sleep(duration);
}
