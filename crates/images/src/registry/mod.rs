//! Pulling from registries, by the OCI distribution specification.

mod http;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use gantry_ports::{BoxFuture, Clock, Random, Sockets, Tasks, join_all};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::archive::choose;
use crate::document::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, Index, MANIFEST, Manifest};
use crate::store::Store;
use crate::{Digest, Error, Image, Reference, Result};
use http::Session;

/// Layers on the way at once.
const AT_ONCE: usize = 4;

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The way to registries.
pub struct Registries {
    /// The network.
    pub sockets: Arc<dyn Sockets>,
    /// For what must go on beside a pull, and what blocks.
    pub tasks: Tasks,
    /// For timeouts.
    pub clock: Arc<dyn Clock>,
    /// For questions to name servers.
    pub random: Arc<dyn Random>,
    /// Registries that are spoken to without encryption though they are elsewhere, as images name them. Those of this
    /// machine always are.
    pub plain_http: BTreeSet<String>,
    /// Certificate authorities in PEM; `None` for those the machine trusts.
    pub authorities: Option<String>,
}

impl Registries {
    fn authorities(&self) -> io::Result<String> {
        match &self.authorities {
            Some(pem) => Ok(pem.clone()),
            None => gantry_transport::system_authorities(),
        }
    }

    /// Gets an image, whatever of it isn't here yet, and gives it the name.
    ///
    /// # Errors
    /// `Registry` is the registry's word; `WrongDigest` and `Refused` mean that what came isn't what was announced.
    pub async fn pull(&self, store: &Arc<Store>, reference: &Reference, credentials: Option<&Credentials>) -> Result<Image> {
        let session = Session { registries: self, registry: reference.registry().to_owned(), credentials, authorization: Mutex::new(None) };
        let shared = store.clone();
        // It may have to wait for a collection.
        let _adding = self.tasks.blocking(move || shared.adding()).await?;
        let wanted = reference.digest().map(Digest::as_str).or(reference.tag()).unwrap_or("latest");
        let (announced, bytes) = self.document(&session, reference, wanted, reference.digest()).await?;
        let manifest = match serde_json::from_slice::<Index>(&bytes) {
            Ok(index) => {
                let chosen = choose(&index, &announced)?;
                let (digest, bytes) = self.document(&session, reference, chosen.digest.as_str(), Some(&chosen.digest)).await?;
                store.add_blob("manifest", bytes.as_slice(), Some((&digest, Some(chosen.size))))?.0
            }
            Err(_) => store.add_blob("manifest", bytes.as_slice(), Some((&announced, None)))?.0,
        };
        let parsed: Manifest = store.parse("manifest", &manifest)?;
        let gate = Semaphore::new(AT_ONCE);
        let mut seen = BTreeSet::new();
        let blobs: Vec<BoxFuture<'_, Result<()>>> = std::iter::once(&parsed.config)
            .chain(&parsed.layers)
            .filter(|d| seen.insert(d.digest.clone()))
            .map(|d| Box::pin(self.blob(&session, store, reference, d, &gate)) as BoxFuture<'_, Result<()>>)
            .collect();
        join_all(blobs).await.into_iter().collect::<Result<()>>()?;
        let (shared, digest) = (store.clone(), manifest.clone());
        self.tasks.blocking(move || shared.complete(&digest).map(drop)).await?;
        store.set_name(reference, &manifest, Some(announced))?;
        store.find(&reference.to_string())
    }

    /// A manifest or index, and its digest.
    async fn document(
        &self,
        session: &Session<'_>,
        reference: &Reference,
        wanted: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Vec<u8>)> {
        let path = format!("/v2/{}/manifests/{wanted}", reference.repository());
        let accept = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let response = session.get(&path, &accept).await?;
        let announced =
            response.headers().get("docker-content-digest").and_then(|h| h.to_str().ok()).and_then(|d| d.parse::<Digest>().ok());
        let bytes = session.read_small(response).await?;
        let found = Digest::of(&bytes);
        match expected.or(announced.as_ref()) {
            Some(expected) if *expected != found => Err(Error::WrongDigest { what: path, expected: expected.clone(), found }),
            _ => Ok((found, bytes)),
        }
    }

    async fn blob(
        &self,
        session: &Session<'_>,
        store: &Arc<Store>,
        reference: &Reference,
        wanted: &Descriptor,
        gate: &Semaphore,
    ) -> Result<()> {
        if store.has_blob(wanted) {
            return Ok(());
        }
        let _turn = gate.acquire().await.map_err(|e| session.said("take turns", e.to_string()))?;
        let what = format!("blob {} of {reference}", wanted.digest);
        let response = session.get(&format!("/v2/{}/blobs/{}", reference.repository(), wanted.digest), "*/*").await?;
        let mut writer = store.blob_writer()?;
        let (mut body, mut length) = (response.into_body(), 0_u64);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Error::refused(&what, format!("cut short: {e}")))?;
            let Some(data) = frame.data_ref() else { continue };
            length += data.len() as u64;
            if length > wanted.size {
                return Err(Error::refused(what, format!("more than the {} bytes announced", wanted.size)));
            }
            writer.write_all(data).map_err(Error::path("write", store.blob_path(&wanted.digest)))?;
        }
        let (shared, wanted) = (store.clone(), wanted.clone());
        self.tasks.blocking(move || writer.keep(&shared, &what, Some((&wanted.digest, Some(wanted.size)))).map(drop)).await
    }
}
