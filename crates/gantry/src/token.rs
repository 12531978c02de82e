//! `gantry token`: what nodes join with.

use std::sync::Arc;
use std::time::Duration;

use gantry_client::{Api, Request};
use gantry_object::Resource;
use gantry_pki::{JoinToken, ca_hash};
use serde_json::json;

use crate::admin;
use crate::cli::{ClusterArgs, Failure};
use crate::server::World;

const SECRETS: Resource = Resource::namespaced("", "v1", "secrets", "Secret");
/// How long a token can be joined with.
const LASTS: Duration = Duration::from_secs(86400);

/// Makes a token and prints it.
pub(crate) fn create(cluster: &ClusterArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    runtime.block_on(async {
        let world = World::real(tokio::runtime::Handle::current())?;
        let dir = cluster.open();
        let api: Arc<dyn Api> = Arc::new(admin::connect(&world, &dir)?);
        let token = make(&world, &api, &dir.authority_pem()?).await?;
        crate::say!("{token}");
        Ok(())
    })
}

/// Makes a token that joins the cluster of this authority.
pub(crate) async fn make(world: &World, api: &Arc<dyn Api>, authority: &str) -> Result<JoinToken, Failure> {
    let hash = ca_hash(authority).map_err(|e| Failure::act("reading the cluster's authority", e))?;
    let token = JoinToken::generate(hash, &*world.random);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system"},
        "stringData": {"token-id": token.id, "token-secret": token.secret, "usage-bootstrap-authentication": "true",
            "expiration": world.clock.now().plus(LASTS).rfc3339()}});
    api.call(Request::create(SECRETS, "kube-system", &secret)).await.map_err(|e| Failure::act("making a join token", e))?;
    Ok(token)
}
