//! TLS to a real `PostgreSQL` with a certificate that it signed itself.

use std::net::TcpListener;

use super::database::{Database, programs};
use crate::log::LogPlace;

/// A database that takes encrypted connections alone over TCP, with a certificate for 127.0.0.1.
fn encrypted(folder: &std::path::Path, port: u16) -> Option<Database> {
    let options = format!("-c listen_addresses=127.0.0.1 -p {port} -c ssl=on -c ssl_ca_file=client.crt");
    Some(Database::start_with(folder, programs()?, &options, |database| {
        let data = database.folder().display();
        let (key, certificate) = (format!("{data}/server.key"), format!("{data}/server.crt"));
        database.run(
            "/usr/bin/openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=database",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        );
        // `member` enters by the certificate that the database knows, whoever else is trusted.
        let (key, certificate) = (format!("{data}/client.key"), format!("{data}/client.crt"));
        let words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=member"];
        database.run("/usr/bin/openssl", &[&words[..], &["-keyout", &key, "-out", &certificate]].concat());
        let rules = "local all all trust\nhostssl all member 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(database.folder().join("pg_hba.conf"), rules).unwrap();
    }))
}

#[test]
fn a_log_is_kept_over_tls_and_nobody_else_is_believed() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::Builder::new().prefix("dh-tls").tempdir_in("/tmp").unwrap();
    let Some(database) = encrypted(folder.path(), port) else { return };
    let open = |host: &str, query: &str| {
        let place = LogPlace::Database(format!("postgres://postgres@{host}:{port}/postgres{query}"));
        place.open().map(drop).map_err(|error| error.to_string())
    };
    let certificate = database.folder().join("server.crt").display().to_string();
    let other = folder.path().join("other.crt").display().to_string();
    let key = folder.path().join("other.key").display().to_string();
    database.run(
        "/usr/bin/openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=other",
            "-keyout",
            &key,
            "-out",
            &other,
        ],
    );
    assert!(open("127.0.0.1", "").unwrap_err().contains("no encryption"), "only encrypted connections are taken");
    open("127.0.0.1", "?sslmode=require").unwrap();
    open("127.0.0.1", "?sslmode=prefer").unwrap();
    open("127.0.0.1", &format!("?sslmode=verify-full&sslrootcert={certificate}")).unwrap();
    // The right certificate under another name, and another one under the right name.
    open("localhost", &format!("?sslmode=verify-ca&sslrootcert={certificate}")).unwrap();
    let error = open("localhost", &format!("?sslmode=verify-full&sslrootcert={certificate}")).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    for mode in ["verify-full", "verify-ca", "require"] {
        let error = open("127.0.0.1", &format!("?sslmode={mode}&sslrootcert={other}")).unwrap_err();
        assert!(error.contains("certificate"), "{mode}: {error}");
    }
    // One who must show a certificate, with it, without it, with another, and with a key that others may read.
    let socket = format!("{}:{port}/postgres", database.address.strip_suffix("/postgres").unwrap());
    let mut owner = postgres::Client::connect(&socket, postgres::NoTls).unwrap();
    owner.batch_execute("CREATE ROLE member SUPERUSER LOGIN").unwrap();
    let enter = |own: &str| {
        let place = LogPlace::Database(format!("postgres://member@127.0.0.1:{port}/postgres?sslmode=require{own}"));
        place.open().map(drop).map_err(|error| error.to_string())
    };
    let data = database.folder().display();
    let member = format!("&sslcert={data}/client.crt&sslkey={data}/client.key");
    enter(&member).unwrap();
    let error = enter("").unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    enter(&format!("&sslcert={other}&sslkey={key}")).unwrap_err();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(database.folder().join("client.key"), mode).unwrap();
    let error = enter(&member).unwrap_err();
    assert!(error.contains("chmod 600"), "{error}");
}
