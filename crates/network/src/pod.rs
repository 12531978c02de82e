//! A pod's link: a veth pair, routed, each side told the other's hardware address so that nobody has to ask.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use crate::names::mac;
use crate::network::entries;
use crate::rtnl::{End, LOOPBACK, Requests, Route, Rtnl, tolerate_gone};
use crate::{Error, Range, netns};

/// What a pod's end of the link is called inside.
const INSIDE: &str = "eth0";

/// Makes a namespace, and links it to the node.
pub(crate) fn connect(rtnl: &mut Rtnl, pin: &Path, link: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), Error> {
    netns::unpin(pin)?;
    let mut inside = netns::create(pin, || {
        unlock();
        Rtnl::open()
    })??;
    let namespace = File::open(pin).map_err(Error::file("open", pin))?;
    let mut requests = Requests::default();
    let near = End { name: link, mac: mac(gateway), bridge: None };
    requests.add_veth(&near, &End { name: INSIDE, mac: mac(address), bridge: None }, namespace.as_fd());
    rtnl.run(requests)?;
    set_up_inside(&mut inside, address, gateway)?;
    let index = rtnl.index_of(link)?;
    let mut requests = Requests::default();
    requests.set_neighbour(index, address, mac(address));
    requests.set_route(&Route { to: Range::new(address, 32), via: None, device: Some(index), source: Some(gateway), metric: 0 });
    rtnl.run(requests)
}

/// Takes link and namespace away, whichever of them are there.
pub(crate) fn disconnect(rtnl: &mut Rtnl, pin: &Path, link: &str) -> Result<(), Error> {
    let mut requests = Requests::default();
    requests.delete_link(link);
    tolerate_gone(rtnl.run(requests))?;
    netns::unpin(pin)
}

/// Pins a pod's namespace again, through a process that lives in it; the pin may have been made in a mount namespace that is gone.
///
/// Says whether the namespace is pinned now; it is not when nobody lives in it.
pub(crate) fn pin_again(rtnl: &mut Rtnl, pin: &Path, link: &str) -> Result<bool, Error> {
    let Some(namespace) = rtnl.far_namespace(link)? else { return Ok(false) };
    let processes = entries(Path::new("/proc"))?.into_iter().filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    for process in processes {
        if rtnl.namespace_of(process) == Some(namespace)
            && netns::pin(&Path::new("/proc").join(process.to_string()).join("ns/net"), pin).is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn set_up_inside(inside: &mut Rtnl, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), Error> {
    let index = inside.index_of(INSIDE)?;
    let route = |to: Range, via| Route { to, via, device: Some(index), source: None, metric: 0 };
    let mut requests = Requests::default();
    requests.set_up(LOOPBACK);
    requests.set_up(index);
    requests.add_address(index, address, 32, None);
    requests.set_neighbour(index, gateway, mac(gateway));
    requests.set_route(&route(Range::new(gateway, 32), None));
    requests.set_route(&route(Range::new(Ipv4Addr::UNSPECIFIED, 0), Some(gateway)));
    inside.run(requests)
}

/// Lets processes without capabilities ping and listen on low ports, as other runtimes do: the ports are the pod's own.
fn unlock() {
    for (name, value) in [("ping_group_range", "0 2147483647"), ("ip_unprivileged_port_start", "0")] {
        if let Err(error) = fs::write(Path::new("/proc/sys/net/ipv4").join(name), value) {
            tracing::debug!(name, %error, "a pod goes without this");
        }
    }
}
