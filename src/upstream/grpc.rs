//! gRPC checks: one call of the health service.

use std::future::poll_fn;

use ::http::header::{CONTENT_TYPE, TE, USER_AGENT};
use ::http::{HeaderMap, Method, Request, Version};
use bytes::Bytes;
use h2::client::SendRequest;

use super::http2::{self, Failure};
use crate::logic::probe::grpc::{self, Response};
use crate::logic::probe::Verdict;
use crate::logic::settings::GrpcProbe;
use crate::nginx::connection::{Connection, ConnectionError};

/// Asks a server over a new connection, which `is_secure` where it is one of TLS.
pub async fn check(
    connection: Connection,
    settings: &GrpcProbe,
    is_secure: bool,
) -> Result<Verdict, ConnectionError> {
    let scheme = if is_secure { "https" } else { "http" };
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("{scheme}://{}{}", settings.host, grpc::PATH))
        .header(CONTENT_TYPE, grpc::CONTENT_TYPE)
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("checkups/", env!("CARGO_PKG_VERSION")))
        .body(());
    let Ok(request) = request else {
        return Ok(Verdict::fail("grpc: the host cannot be one"));
    };
    let body = Bytes::from(grpc::request(&settings.service));
    let response = http2::run(connection, |sender| call(sender, request, body)).await;
    match response {
        Ok(response) => Ok(response.verdict()),
        Err(Failure::Verdict(verdict)) => Ok(verdict),
        Err(Failure::Connection(error)) => Err(error),
    }
}

async fn call(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<Response, h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(body, true)?;

    let (head, mut body) = response.await?.into_parts();
    let mut response = Response {
        http_status: head.status.as_u16(),
        content_type: value(&head.headers, CONTENT_TYPE.as_str()),
        ..Response::default()
    };
    if response.head_verdict().is_some() {
        return Ok(response);
    }
    while let Some(data) = body.data().await {
        let data = data?;
        if response.body.len() + data.len() > grpc::MAX_BODY {
            return Ok(response);
        }
        body.flow_control().release_capacity(data.len())?;
        response.body.extend_from_slice(&data);
    }
    // Where there is no body, what stands behind it stands in the head.
    let trailers = poll_fn(|context| body.poll_trailers(context)).await?;
    let trailers = trailers.unwrap_or(head.headers);
    response.status = value(&trailers, "grpc-status");
    response.message = value(&trailers, "grpc-message");
    Ok(response)
}

fn value(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    headers.get(name).map(|value| value.as_bytes().to_vec())
}
