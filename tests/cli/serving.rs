//! `serve`: ready at once, alone on its addresses, and never gone with a question unanswered.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::dns::{Upstream, question, receive_tcp, receive_udp, send_tcp, send_udp, told};
use crate::program::Home;

#[test]
fn serve_is_ready_quickly_and_keeps_to_itself_what_needs_no_upstream() {
    let home = Home::new();
    let upstream = Upstream::start();
    let serving = home.serve(upstream.address, &[]);
    let reply = receive_udp(&send_udp(serving.dns, "localhost"));
    let took = serving.began.elapsed();
    assert_eq!(told(&reply), (0, 1));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn cki_23_no_log_holds_a_cookie_or_padding_however_much_is_logged() {
    let home = Home::new();
    let upstream = Upstream::start();
    let more = ["--set", "log.queries=full", "--set", "log.level=trace", "--set", "cookies.require=always"];
    let serving = home.serve(upstream.address, &more);
    let mut query = question("localhost");
    query[11] = 1;
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 22, 0, 10, 0, 8]);
    query.extend(*b"MyCookie");
    query.extend([0, 12, 0, 6]);
    query.extend(*b"MyFill");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.send_to(&query, serving.dns).unwrap();
    let reply = receive_udp(&socket);
    let at = reply.windows(8).position(|octets| octets == b"MyCookie").unwrap();
    let given = reply[at..at + 24].to_vec();
    let first = serving.running.until("\"query\"");
    serving.running.signal("TERM");
    let rest: Vec<String> = std::iter::once(first).chain(serving.running.rest()).collect();
    let log = rest.join("\n");
    assert!(log.contains("localhost") && log.contains("stopping"), "{log}");
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().concat();
    let list = |octets: &[u8]| octets.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for secret in [&b"MyCookie"[..], &given[16..], b"MyFill"] {
        let forms = [hex(secret), hex(secret).to_uppercase(), list(secret), secret.escape_ascii().to_string()];
        for form in forms {
            assert!(!log.contains(&form), "{form} in {log}");
        }
    }
}

#[test]
fn a_configuration_with_mistakes_starts_nothing() {
    // Were it to try, it would find its address taken and end with another status.
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    let text = format!("wokers = 2\n[listen]\ndns = [\"{}\"]\n[cache]\nsize = \"lots\"\n", held.local_addr().unwrap());
    let file = home.write("hushgate.toml", &text);
    let ended = home.run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{ended:?}");
    assert!(ended.errors.contains("did you mean workers?") && ended.errors.contains("cache.size"), "{}", ended.errors);
    assert!(!ended.errors.contains("listening") && !ended.errors.contains("in use"), "{}", ended.errors);
    assert!(!home.path("hushgate").exists(), "not even a state directory");
}

#[test]
fn a_second_instance_on_an_address_is_an_error_that_names_it_and_the_first_goes_on() {
    let upstream = Upstream::start();
    let home = Home::new();
    let first = home.serve(upstream.address, &[]);
    for (key, address) in [("listen.dns", first.dns), ("admin.listen", first.admin)] {
        let mut arguments = vec!["serve".to_owned()];
        for set in crate::program::ANY_PORTS.iter().filter(|set| !set.starts_with(key)) {
            arguments.extend(["--set".to_owned(), (*set).to_owned()]);
        }
        arguments.extend(["--set".to_owned(), format!("{key}=[\"{address}\"]")]);
        let ended = home.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.errors.contains(&address.to_string()), "{}", ended.errors);
        assert!(ended.errors.contains("in use") && ended.errors.contains("choose another"), "{}", ended.errors);
    }
    assert_eq!(told(&receive_udp(&send_udp(first.dns, "localhost"))), (0, 1));
}

#[test]
fn questions_in_flight_at_sigterm_are_answered_and_the_status_is_0() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::start();
        let mut serving = Home::new().serve(upstream.address, &[]);
        let udp = send_udp(serving.dns, "udp.example");
        let mut tcp = send_tcp(serving.dns, "tcp.example");
        upstream.wait_until_asked(&["udp.example", "tcp.example"]);
        serving.running.signal(signal);
        serving.running.until("\"stopping");
        upstream.answer_all();
        assert_eq!(told(&receive_udp(&udp)), (0, 1));
        assert_eq!(told(&receive_tcp(&mut tcp)), (0, 1));
        assert_eq!(serving.running.end().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_signal_while_the_doors_are_being_opened_ends_in_order_too() {
    let upstream = Upstream::start();
    let mut serving = Home::new().serve(upstream.address, &[]);
    serving.running.signal("TERM");
    assert_eq!(serving.running.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let upstream = Upstream::start();
    let mut serving =
        Home::new().serve(upstream.address, &["--set", "shutdown.grace=5m", "--set", "upstream.timeout=30s"]);
    let _waiting = send_tcp(serving.dns, "never.example");
    upstream.wait_until_asked(&["never.example"]);
    serving.running.signal("TERM");
    serving.running.until("\"stopping");
    let second = Instant::now();
    serving.running.signal("TERM");
    assert_eq!(serving.running.end().code(), Some(1));
    assert!(second.elapsed() < Duration::from_secs(10), "{:?}", second.elapsed());
}
