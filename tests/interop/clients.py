"""Clients that look closely: which options come back, what is padded to which length, what TLS is not to do; dnspython over every
transport; unbound that forwards to the gateway, in clear text and over TLS. Called by run.py with the gateway of `hushgate demo`.
"""
import re
import subprocess
import tempfile

import dns.edns
import dns.message
import dns.query

from servers import Process, free_port, run, write

NAME = "interop.demo.example"
ADDRESS = "192.0.2.7"


def text(result):
    return result.stdout.decode("utf-8", "replace")


def dig(port, *options):
    return text(run("dig", "@127.0.0.1", "-p", port, "+tries=1", "+time=5", *options, NAME, "A"))


def cookie_is_learnt(port, *options):
    """The cookie given to a bare client cookie is good when it is shown again; another is not."""
    given = re.search(r"; COOKIE: ([0-9a-f]{48}) \(good\)", dig(port, "+cookie", *options))
    if not given:
        return "no cookie"
    again = dig(port, f"+cookie={given.group(1)}", *options)
    return "good" if "(good)" in again and ADDRESS in again else "lost"


def option_lines(port, *options):
    """The lines of the OPT record beside its version, flags and size."""
    shown = dig(port, "+nocookie", *options)
    if ADDRESS not in shown:
        return "no answer"
    section = shown.partition("OPT PSEUDOSECTION:")[2].partition(";;")[0]
    names = re.findall(r"^; ([A-Z][A-Za-z-]+)", section, re.M)
    return " ".join(name for name in names if name != "EDNS") or "none"


def padded(demo, door, *options):
    """Octets of a reply to a padded question, less what is around the message."""
    shown = text(run("kdig", "@127.0.0.1", "-p", demo.ports[door], "+retry=0", "+time=5", f"+tls-ca={demo.ca}", "+tls-hostname=localhost",
                     *options, "+padding", NAME, "A"))
    found = re.search(r"Received (\d+) B", shown)
    return found.group(1) if found else "no answer"


def renegotiates(demo):
    """A client of TLS 1.2 asks for another handshake on the connection."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{demo.ports['dot']}", "-servername", "localhost", "-CAfile", demo.ca, "-tls1_2"]
    result = subprocess.run(command, input=b"R\n", capture_output=True, timeout=20)
    said = (result.stdout + result.stderr).decode("utf-8", "replace")
    if "Cipher is" not in said or "(NONE)" in said:
        return "no handshake"
    # The client says what it did; the second handshake ends in an error, or is never begun.
    return "refused" if result.returncode != 0 or "error" in said.lower() or "no renegotiation" in said.lower() else "renegotiated"


def compression(demo):
    result = run("openssl", "s_client", "-connect", f"127.0.0.1:{demo.ports['dot']}", "-servername", "localhost", "-CAfile", demo.ca, "-comp", "-tls1_2", input=b"")
    found = re.search(r"Compression: (\S+)", text(result))
    return found.group(1) if found else "unknown"


def ticket_hours(demo):
    """How long a ticket of the door is good for, as openssl reads it after a question has kept the connection."""
    question = b"\0\x11\0\0\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{demo.ports['dot']}", "-servername", "localhost", "-CAfile", demo.ca, "-no_ign_eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        client.stdin.write(question)
        client.stdin.flush()
        shown = b""
        while b"lifetime hint" not in shown and (line := client.stdout.readline()):
            shown += line
        client.stdin.close()
        client.stdout.read()
    found = re.search(rb"lifetime hint: (\d+)", shown)
    return f"{int(found.group(1)) // 3600} h" if found else "no ticket"


def dnspython(demo, transport):
    """What the reply says: address, RCODE, and the options by their numbers."""
    options = [dns.edns.ECSOption("198.51.100.0", 24), dns.edns.GenericOption(10, bytes(range(8)))]
    query = dns.message.make_query(NAME, "A", use_edns=0, want_dnssec=True, payload=1232, options=options, pad=128)
    query.id = 0 if transport in ("https", "https-get", "h3", "quic") else query.id
    where, port = "127.0.0.1", lambda door: int(demo.ports[door])
    try:
        if transport == "udp":
            reply = dns.query.udp(query, where, timeout=5, port=port("udp"))
        elif transport == "tcp":
            reply = dns.query.tcp(query, where, timeout=5, port=port("tcp"))
        elif transport == "tls":
            reply = dns.query.tls(query, where, timeout=5, port=port("dot"), server_hostname="localhost", verify=demo.ca)
        elif transport == "quic":
            reply = dns.query.quic(query, where, timeout=5, port=port("doq"), server_hostname="localhost", verify=demo.ca)
        else:
            version = dns.query.HTTPVersion.H3 if transport == "h3" else dns.query.HTTPVersion.H2
            url = f"https://localhost:{port('doh2')}/dns-query"
            reply = dns.query.https(query, url, timeout=5, bootstrap_address=where, verify=demo.ca, post=transport != "https-get",
                                    http_version=version)
    except Exception as error:  # the kind of failure is the result
        return f"{type(error).__name__}: {error}"
    addresses = [record.address for rrset in reply.answer for record in rrset if rrset.rdtype == dns.rdatatype.A]
    codes = sorted(int(option.otype) for option in reply.options)
    return f"{' '.join(addresses)} edns {reply.edns} do {bool(reply.ednsflags & dns.flags.DO)} options {codes}"


def unbound(demo, over_tls):
    """A resolver that forwards everything to the gateway, asked by dig for signatures."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        where = f"127.0.0.1@{demo.ports['dot' if over_tls else 'udp']}" + ("#localhost" if over_tls else "")
        config = write(folder, "front.conf", f"""server:
  interface: 127.0.0.1@{port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  module-config: "iterator"
  do-not-query-localhost: no
  tls-cert-bundle: "{demo.ca}"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: {where}
  forward-tls-upstream: {"yes" if over_tls else "no"}
""")
        process = Process(folder, "unbound", "unbound", "-d", "-c", config)
        try:
            process.until(lambda: ADDRESS in dig(str(port), "+short", "+time=1"))
            shown = dig(str(port), "+dnssec")
        except RuntimeError as error:
            return str(error)[-200:]
        finally:
            process.stop()
    return f"{ADDRESS} do" if ADDRESS in shown and "flags: do" in shown else "no answer"


def rows(demo):
    """As those of run.py."""
    for transport, extra in [("udp", []), ("tcp", ["+tcp"])]:
        port = demo.ports[transport]
        yield "dig +cookie, twice", transport, "^good$", cookie_is_learnt(port, *extra)
        yield "dig +subnet: nothing comes back", transport, "^none$", option_lines(port, "+subnet=198.51.100.0/24", *extra)
        yield "dig +nsid: nothing by default", transport, "^none$", option_lines(port, "+nsid", *extra)
        yield "dig +ednsopt=65001", transport, "^none$", option_lines(port, "+ednsopt=65001:beef", *extra)
    for option, door in [("+tls", "dot"), ("+https", "doh2"), ("+https-get", "doh2"), ("+quic", "doq")]:
        yield f"kdig {option} +padding: 468 octets", door, "^468$", padded(demo, door, option)
    yield "openssl R, TLS 1.2: no renegotiation", "dot", "^refused$", renegotiates(demo)
    yield "openssl -comp, TLS 1.2", "dot", "^NONE$", compression(demo)
    yield "openssl, life of a ticket", "dot", "^([6-9]|[1-9][0-9]+) h$", ticket_hours(demo)
    bare = rf"^{re.escape(ADDRESS)} edns 0 do True options "
    for transport, door in [("udp", "udp"), ("tcp", "tcp")]:
        yield f"dnspython {transport}", door, bare + r"\[10\]$", dnspython(demo, transport)
    for transport, door in [("tls", "dot"), ("https", "doh2"), ("https-get", "doh2"), ("h3", "doh3"), ("quic", "doq")]:
        yield f"dnspython {transport}", door, bare + r"\[10, 12\]$", dnspython(demo, transport)
    yield "unbound forwards to it", "udp", "^192.0.2.7 do$", unbound(demo, False)
    yield "unbound forwards to it over TLS", "dot", "^192.0.2.7 do$", unbound(demo, True)
