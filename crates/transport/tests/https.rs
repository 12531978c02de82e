//! A server and a client over the simulated network: certificates, both HTTP versions, upgrades.

use std::sync::Arc;
use std::time::Duration;

use gantry_object::Timestamp;
use gantry_pki::{Authority, Issued, Profile};
use gantry_ports::{BoxFuture, SeededRandom, SimulatedSockets, Sockets, Tasks};
use gantry_transport::{
    Body, ClientTls, Handler, HttpsClient, Peer, Request, Response, ServerTls, ServingCertificate, Target, full, serve,
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Echo {
    tasks: Tasks,
}

impl Handler for Echo {
    fn handle(self: Arc<Self>, mut request: Request, peer: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            if request.headers().contains_key("upgrade") {
                let upgrade = hyper::upgrade::on(&mut request);
                self.tasks.spawn(async move {
                    let mut stream = TokioIo::new(upgrade.await.expect("upgrades"));
                    let mut word = [0; 4];
                    stream.read_exact(&mut word).await.expect("reads");
                    stream.write_all(&word).await.expect("writes");
                });
                let switching = http::Response::builder().status(101).header("upgrade", "echo").header("connection", "upgrade");
                return switching.body(full("")).expect("well formed");
            }
            let who = peer.certificate.map(|c| c.common_name.clone());
            let body = request.into_body().collect().await.expect("a whole body").to_bytes();
            http::Response::new(full(format!("{} says {}", who.unwrap_or_default(), String::from_utf8_lossy(&body))))
        })
    }
}

struct World {
    ca: Authority,
    target: Target,
    sockets: Arc<dyn Sockets>,
    tasks: Tasks,
}

const NOW: Timestamp = Timestamp(1_770_000_000_000_000_000);

impl World {
    async fn new() -> Self {
        let random = SeededRandom::new(1);
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        // TLS reads the machine's own clock: the certificates of this test are good from early 2026 for ten years.
        let ca = Authority::generate("test", NOW, &random).expect("generates");
        let sockets: Arc<dyn Sockets> = Arc::new(SimulatedSockets::default());
        let listener = sockets.bind("10.0.0.1:0".parse().expect("an address")).await.expect("binds");
        let target = Target { address: listener.local_addr().expect("bound"), name: "server".into() };
        let profile = Profile { dns_names: vec!["server".into()], server: true, ..Profile::default() };
        let issued = ca.issue(&profile, Duration::from_secs(1 << 30), NOW, &random).expect("issues");
        let tls = ServerTls::new(ServingCertificate::new(&issued).expect("good"), ca.certificate_pem()).expect("good");
        serve(listener, tls, &tasks, Arc::new(Echo { tasks: tasks.clone() }));
        Self { ca, target, sockets, tasks }
    }

    fn issue(&self, ca: &Authority, user: &str) -> Issued {
        let profile = Profile { common_name: user.into(), client: true, ..Profile::default() };
        ca.issue(&profile, Duration::from_secs(1 << 30), NOW, &SeededRandom::new(5)).expect("issues")
    }

    fn client(&self, trusted: &Authority, shown: Option<&Issued>) -> HttpsClient {
        let tls = ClientTls::new(trusted.certificate_pem(), shown).expect("good");
        HttpsClient::new(self.target.clone(), tls, self.sockets.clone(), self.tasks.clone())
    }
}

fn say(text: &'static str) -> http::Request<Body> {
    http::Request::post("/").body(full(text)).expect("well formed")
}

async fn text(response: http::Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.expect("a whole body").to_bytes().to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate_over_both_versions() {
    let world = World::new().await;
    let client = world.client(&world.ca, Some(&world.issue(&world.ca, "ann")));
    assert_eq!(text(client.send(say("hi")).await.expect("answered")).await, "ann says hi");
    assert_eq!(text(client.send(say("again")).await.expect("answered")).await, "ann says again");
    assert_eq!(text(client.send_alone(say("ho")).await.expect("answered")).await, "ann says ho");
    let nobody = world.client(&world.ca, None);
    assert_eq!(text(nobody.send(say("hi")).await.expect("answered")).await, " says hi");
}

#[tokio::test]
async fn strangers_are_turned_away_on_either_side() {
    let world = World::new().await;
    let stranger = Authority::generate("other", NOW, &SeededRandom::new(9)).expect("generates");
    world.client(&stranger, None).send(say("hi")).await.expect_err("the client must not trust this server");
    let forged = world.issue(&stranger, "ann");
    world.client(&world.ca, Some(&forged)).send(say("hi")).await.expect_err("the server must not take this certificate");
}

#[tokio::test]
async fn a_response_may_switch_protocols() {
    let world = World::new().await;
    let request = http::Request::get("/").header("upgrade", "echo").header("connection", "upgrade").body(full("")).expect("well formed");
    let response = world.client(&world.ca, None).send_alone(request).await.expect("answered");
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("upgrades"));
    stream.write_all(b"ping").await.expect("writes");
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.expect("reads");
    assert_eq!(&word, b"ping");
}
