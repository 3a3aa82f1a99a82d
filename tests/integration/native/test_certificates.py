# SPDX-License-Identifier: Apache-2.0
"""The broker's certificates change while it runs."""

import datetime
import signal
import socket
import ssl
import time

import brokers
import grpc
import pytest
import tds
from brokers import CALL_SECONDS, create, keybroker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(name: str, ca=None, *, days: float = 30, is_ca: bool = False, usage=None):
    """Returns (certificate, key); ca is such a pair, None: it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(ca[0].subject if ca else subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_ca, None), True)
    )  # fmt: skip
    if not is_ca:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(brokers.LOOPBACK)])
        builder = builder.add_extension(names, False).add_extension(x509.ExtendedKeyUsage([usage]), False)
    return builder.sign(ca[1] if ca else key, hashes.SHA256()), key


def text(made) -> tuple[bytes, bytes]:
    return made[0].public_bytes(serialization.Encoding.PEM), made[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def replace(path, content: bytes) -> None:
    """As certificate managers do: a new file takes the place of the old one."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.rename(path)


def own_ca(broker):
    ca = x509.load_pem_x509_certificate((broker.dir / "ca.crt").read_bytes())
    return ca, serialization.load_pem_private_key((broker.dir / "ca.key").read_bytes(), None)


def serial(broker) -> int:
    """The number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cafile=str(broker.dir / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(broker.dir / "clients/node.crt", broker.dir / "clients/node.key")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", broker.port), 10) as raw, context.wrap_socket(raw) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(True)).serial_number


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def status(stub):
    return stub.GetStatus(keybroker.GetStatusRequest(), timeout=CALL_SECONDS)


@pytest.fixture
def watched(make_broker):
    broker = make_broker()
    broker.http = f"127.0.0.1:{brokers.free_port()}"
    broker.start(http=broker.http)
    return broker


def test_a_new_certificate_is_used_by_new_connections(watched):
    broker, stub = watched, watched.stub()
    status(stub)
    old = serial(broker)
    made = certificate("broker", own_ca(broker), days=5, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH)
    pem, key = text(made)
    replace(broker.dir / "broker.key", key)
    replace(broker.dir / "broker.crt", pem)
    wait_for(lambda: serial(broker) == made[0].serial_number)  # without a signal
    assert old != made[0].serial_number
    status(stub)  # the connection from before goes on
    create(broker.stub(), "v")
    until = int(made[0].not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp())
    page = brokers.page(broker.http, "/metrics")
    assert f"\ntdvol_keybroker_certificate_expiry_timestamp_seconds {until}\n" in page
    assert "\ntdvol_keybroker_certificate_reload_failed 0\n" in page
    assert "the broker's certificate expires soon" in broker.log.read_text()  # within seven days
    broker.stop()


def test_bad_certificates_change_nothing_and_are_told(watched):
    broker = watched
    old, good = serial(broker), (broker.dir / "broker.crt").read_bytes()
    for bad, part in ((b"rubbish", "not PEM"),
                      (text(certificate("x", own_ca(broker), usage=x509.ExtendedKeyUsageOID.SERVER_AUTH))[0],
                       "does not belong to its certificate")):  # fmt: skip
        replace(broker.dir / "broker.crt", bad)
        broker.process.send_signal(signal.SIGHUP)
        wait_for(lambda: part in broker.log.read_text())  # noqa: B023
        assert "certificates not changed: the old ones stay in use" in broker.log.read_text()
        assert serial(broker) == old
        assert "\ntdvol_keybroker_certificate_reload_failed 1\n" in brokers.page(broker.http, "/metrics")
        assert "warning: the changed certificates are not good" in brokers.page(broker.http, "/readyz")
    replace(broker.dir / "broker.crt", good)
    broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "\ntdvol_keybroker_certificate_reload_failed 0\n" in brokers.page(broker.http, "/metrics"))
    broker.stop()


def test_another_client_ca_counts_for_every_call_from_then_on(watched, tmp_path):
    broker, stub = watched, watched.stub()
    status(stub)
    server_ca = (broker.dir / "ca.crt").read_bytes()
    ca = certificate("other", is_ca=True)
    client = text(certificate("node", ca, usage=x509.ExtendedKeyUsageOID.CLIENT_AUTH))
    credentials = grpc.ssl_channel_credentials(server_ca, client[1], client[0])
    with pytest.raises(grpc.RpcError) as caught:
        status(broker.stub(credentials=credentials))
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    replace(broker.dir / "ca.crt", text(ca)[0])
    broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: '"msg":"certificates changed"' in broker.log.read_text())
    assert status(broker.stub(credentials=credentials)).state == keybroker.BROKER_STATE_OPEN
    with pytest.raises(grpc.RpcError) as caught:
        status(stub)  # its certificate is of the old CA
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    broker.stop()


def test_an_expired_certificate_is_not_ready(watched):
    broker = watched
    made = certificate("broker", own_ca(broker), days=4 / 86400, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH)
    for name, content in zip(("broker.key", "broker.crt"), reversed(text(made))):
        replace(broker.dir / name, content)
    broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "certificate is expired" in brokers.page(broker.http, "/readyz"))
    broker.stop()


def test_a_td_attests_over_a_connection_from_before_the_change(start, pki, cluster):
    broker = start()
    td = tds.Td(broker, pki)
    assert td.attest(owner_token=cluster.token()).tenant == "default"
    made = certificate("broker", own_ca(broker), usage=x509.ExtendedKeyUsageOID.SERVER_AUTH)
    for name, content in zip(("broker.key", "broker.crt"), reversed(text(made))):
        replace(broker.dir / name, content)
    broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: '"msg":"certificates changed"' in broker.log.read_text())
    assert td.attest(owner_token=cluster.token()).tenant == "default"  # its nonce names the key that it has seen
    fresh = td.challenge()
    other = td.quote(td.report_data(fresh.nonce, tds.spki_sha256(made[1])))
    with pytest.raises(grpc.RpcError) as caught:
        td.attest(owner_token=cluster.token(), nonce=fresh.nonce, quote=other)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    broker.stop()
