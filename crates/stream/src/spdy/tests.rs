use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn encoded(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    for frame in frames {
        encoder.encode(frame, &mut out).unwrap();
    }
    out
}

/// Decodes bytes that come in pieces of a given size, and joins data that was handed out in several.
fn decoded(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Error> {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::<Frame>::new());
    for part in bytes.chunks(piece) {
        buffer.extend_from_slice(part);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
        assert!(buffer.len() <= (64 << 10) + 8, "what waits in the buffer is bounded");
    }
    Ok(frames)
}

fn data_of(frames: &[Frame], wanted: u32) -> (Vec<u8>, bool) {
    let (mut all, mut ended) = (Vec::new(), false);
    for frame in frames {
        if let Frame::Data { stream, fin, bytes } = frame
            && *stream == wanted
        {
            all.extend_from_slice(bytes);
            ended |= fin;
        }
    }
    (all, ended)
}

fn headers() -> impl Strategy<Value = Headers> {
    let pairs = prop::collection::btree_map("[a-z-]{1,20}", ".{0,40}", 0..8);
    pairs.prop_map(|pairs| Headers(pairs.into_iter().collect()))
}

fn control() -> impl Strategy<Value = Frame> {
    let number = 1..=0x7fff_ffffu32;
    let setting = (any::<u8>(), 0..1u32 << 24, any::<u32>()).prop_map(|(flags, id, value)| Setting { flags, id, value });
    prop_oneof![
        (number.clone(), 0..=0x7fff_ffffu32, 0..8u8, any::<bool>(), any::<bool>(), headers()).prop_map(
            |(stream, associated, priority, fin, unidirectional, headers)| Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers
            }
        ),
        (number.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply { stream, fin, headers }),
        (number.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::Headers { stream, fin, headers }),
        (number.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        (any::<bool>(), prop::collection::vec(setting, 0..5)).prop_map(|(clear, values)| Frame::Settings { clear, values }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        (0..=0x7fff_ffffu32, any::<u32>()).prop_map(|(last_good, status)| Frame::GoAway { last_good, status }),
        (0..=0x7fff_ffffu32, 0..=0x7fff_ffffu32).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn control_frames_come_out_as_they_went_in(frames in prop::collection::vec(control(), 0..20), piece in 1..200usize) {
        prop_assert_eq!(decoded(&encoded(&frames), piece).unwrap(), frames);
    }

    #[test]
    fn data_comes_out_whole_however_it_is_cut(pieces in prop::collection::vec((1..4u32, prop::collection::vec(any::<u8>(), 0..3000)), 0..12), piece in 1..2000usize) {
        let frames: Vec<Frame> = pieces.iter().map(|(stream, bytes)| Frame::Data { stream: *stream, fin: false, bytes: Bytes::from(bytes.clone()) }).collect();
        let mut all = frames.clone();
        all.push(Frame::Data { stream: 2, fin: true, bytes: Bytes::new() });
        let out = decoded(&encoded(&all), piece).unwrap();
        for stream in 1..4 {
            prop_assert_eq!(data_of(&out, stream).0, data_of(&frames, stream).0);
        }
        prop_assert!(data_of(&out, 2).1 && !data_of(&out, 1).1);
    }

    #[test]
    fn garbage_is_an_error_or_frames_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000), piece in 1..500usize) {
        let _ = decoded(&bytes, piece);
    }

    #[test]
    fn damaged_frames_never_panic(frames in prop::collection::vec(control(), 1..10), at in any::<prop::sample::Index>(), to in any::<u8>(), piece in 1..500usize) {
        let mut bytes = encoded(&frames);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decoded(&bytes, piece);
        let mut session = Session::new(Role::Server, 4);
        while let Ok(Some(_)) = session.receive(&mut bytes) {}
    }
}

#[test]
fn headers_that_swell_are_refused() {
    // A kilobyte of zlib that becomes a megabyte.
    let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
    let mut block = Vec::with_capacity(16 << 10);
    compress.compress_vec(&vec![0; 1 << 20], &mut block, flate2::FlushCompress::Sync).unwrap();
    let mut frame = vec![0x80, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
    frame.extend_from_slice(&block);
    let length = (block.len() as u32 + 4).to_be_bytes();
    frame[5..8].copy_from_slice(&length[1..]);
    assert_eq!(decoded(&frame, 4096), Err(Error::Headers("they are too long")));
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let check = |bytes: &[u8], error: Error| assert_eq!(decoded(bytes, 1000), Err(error));
    check(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], Error::Version(2));
    check(&[0x80, 3, 0, 6, 0, 0, 0, 3, 0, 0, 0], Error::Length { kind: 6, length: 3 });
    check(&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1], Error::NoStream(3));
    check(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], Error::Length { kind: 1, length: 0xff_ffff });
    check(&[0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], Error::Length { kind: 4, length: 4 });
    // A type that nobody knows is passed over.
    let mut unknown = vec![0x80, 3, 0, 99, 0, 0, 0, 1, 7];
    unknown.extend_from_slice(&encoded(&[Frame::Ping { id: 5 }]));
    assert_eq!(decoded(&unknown, 3).unwrap(), [Frame::Ping { id: 5 }]);
}

fn opening(stream: u32) -> Frame {
    let headers = Headers::of([("streamType", "data")]);
    Frame::SynStream { stream, associated: 0, priority: 0, fin: false, unidirectional: false, headers }
}

fn heard(session: &mut Session, frames: &[Frame]) -> Vec<Event> {
    let mut buffer = encoded(frames);
    std::iter::from_fn(|| session.receive(&mut buffer).unwrap()).collect()
}

#[test]
fn a_session_knows_its_streams() {
    let mut server = Session::new(Role::Server, 2);
    let data = |stream, fin| Frame::Data { stream, fin, bytes: Bytes::from_static(b"x") };
    let refused = |stream, status| Event::Answer(Frame::RstStream { stream, status });
    let frames = [opening(1), data(1, false), data(3, false), Frame::Ping { id: 1 }, Frame::Ping { id: 2 }, data(1, true), data(1, false)];
    let events = heard(&mut server, &frames);
    let bytes = Bytes::from_static(b"x");
    let expected = [
        Event::Opened { stream: 1, headers: Headers::of([("streamtype", "data")]), fin: false },
        Event::Data { stream: 1, fin: false, bytes: bytes.clone() },
        Event::Answer(Frame::Ping { id: 1 }),
        Event::Data { stream: 1, fin: true, bytes },
    ];
    assert_eq!(events, expected, "data for unknown and finished streams and answers to pings are no events");
    let mut server = Session::new(Role::Server, 2);
    // Each connection's compression begins anew, so all frames go in one piece.
    let events = heard(
        &mut server,
        &[opening(3), opening(1), opening(4), opening(5), opening(7), Frame::RstStream { stream: 3, status: 5 }, opening(9)],
    );
    let is_opened = |event: &Event, number| matches!(event, Event::Opened { stream, .. } if *stream == number);
    assert!(is_opened(&events[0], 3) && is_opened(&events[3], 5) && is_opened(&events[6], 9), "{events:?}");
    assert_eq!(events[1], refused(1, reset::PROTOCOL_ERROR), "numbers only grow");
    assert_eq!(events[2], refused(4, reset::PROTOCOL_ERROR), "even numbers are the server's");
    assert_eq!(events[4], refused(7, reset::REFUSED_STREAM), "two are open");
    assert_eq!(events[5], Event::Reset { stream: 3, status: 5 });
}

#[test]
fn a_client_opens_streams_and_hears_replies() {
    let mut client = Session::new(Role::Client, 8);
    assert_eq!((client.open(), client.open()), (Some(1), Some(3)));
    let reply = |stream| Frame::SynReply { stream, fin: false, headers: Headers::default() };
    let data = Frame::Data { stream: 1, fin: true, bytes: Bytes::from_static(b"x") };
    client.forget(3);
    let events = heard(&mut client, &[reply(1), reply(3), reply(5), data]);
    assert_eq!(events, [Event::Replied { stream: 1, fin: false }, Event::Data { stream: 1, fin: true, bytes: Bytes::from_static(b"x") }]);
}
