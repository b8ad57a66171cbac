//! The client against a scripted server on loopback: what it retries, what it refuses, and what it never says.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use dh_core::{HasKind, Kind};

use super::*;

const SECRET: &str = "s3cr3t-never-shown";

/// Answers each connection with the next script entry and hands out the request heads it saw.
fn serve(script: Vec<Vec<u8>>) -> (S3, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::channel();
    thread::spawn(move || {
        for answer in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            // Some tests do not look at the requests.
            drop(heads.send(head + &String::from_utf8_lossy(&body)));
            stream.write_all(&answer).unwrap();
        }
    });
    let secret = Secret::new(SECRET.to_owned());
    let s3 = S3::new(&format!("http://{address}"), "key", secret, "us-east-1").unwrap();
    (s3.with_patience(Duration::from_secs(5)), seen)
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn a_get_survives_a_busy_store_a_cut_body_and_a_dropped_connection() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhal".to_vec();
    let script = vec![answer("503 Slow Down", ""), cut, Vec::new(), answer("429 Busy", ""), answer("200 OK", "whole")];
    let (s3, seen) = serve(script);
    assert_eq!(s3.get("data", "a/b.bin").unwrap(), b"whole");
    let heads: Vec<String> = seen.iter().collect();
    assert_eq!(heads.len(), 5);
    assert!(heads[0].starts_with("GET /data/a/b.bin?X-Amz-"), "{}", heads[0]);
    assert!(!heads.concat().contains(SECRET));
}

#[test]
fn a_put_sends_the_whole_body() {
    let (s3, seen) = serve(vec![answer("200 OK", "")]);
    s3.put("data", "k", b"payload").unwrap();
    assert!(seen.recv().unwrap().ends_with("payload"));
}

#[test]
fn a_refusal_is_final_and_names_the_code() {
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>x</Message></Error>";
    let (s3, seen) = serve(vec![answer("403 Forbidden", body)]);
    let error = s3.get("data", "k").unwrap_err();
    assert_eq!(error.to_string(), "the store refused to get data/k: HTTP 403 (SignatureDoesNotMatch)");
    assert_eq!(error.kind(), Kind::Forbidden);
    assert!(error.hint().is_some());
    assert_eq!(seen.iter().count(), 1);
}

#[test]
fn a_missing_object_and_an_owned_bucket_are_told_apart_from_failures() {
    let (s3, _) = serve(vec![answer("404 Not Found", "<Code>NoSuchKey</Code>")]);
    assert_eq!(s3.get("data", "k").unwrap_err().kind(), Kind::NotFound);
    let (s3, _) = serve(vec![answer("409 Conflict", "<Code>BucketAlreadyOwnedByYou</Code>")]);
    s3.create_bucket("data").unwrap();
    let (s3, _) = serve(vec![answer("409 Conflict", "<Code>BucketAlreadyExists</Code>")]);
    assert_eq!(s3.create_bucket("data").unwrap_err().kind(), Kind::Conflict);
    let (s3, _) = serve(vec![answer("204 No Content", "")]);
    s3.delete("data", "k").unwrap();
}

#[test]
fn head_range_and_list_read_what_the_store_says() {
    let (s3, _) =
        serve(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\netag: \"e\"\r\nconnection: close\r\n\r\n".to_vec()]);
    assert_eq!(s3.head("data", "k").unwrap(), ObjectHead { bytes: 77, etag: Some("\"e\"".to_owned()) });
    let (s3, seen) = serve(vec![answer("206 Partial Content", "cde")]);
    assert_eq!(s3.get_range("data", "k", 2, 3).unwrap(), b"cde");
    assert!(seen.recv().unwrap().to_ascii_lowercase().contains("range: bytes=2-4"));
    let page = |truncated: bool, key: &str| {
        let token = if truncated { "<NextContinuationToken>t1</NextContinuationToken>" } else { "" };
        answer(
            "200 OK",
            &format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult \
                 xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>{truncated}</IsTruncated>{token}\
                 <EncodingType>url</EncodingType><Contents><Key>{key}</Key><Size>3</Size></Contents></ListBucketResult>"
            ),
        )
    };
    let (s3, seen) = serve(vec![page(true, "p/a"), page(false, "p/b%20c")]);
    let keys: Vec<String> = s3.list("data", "p/").unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["p/a", "p/b c"]);
    assert!(seen.iter().nth(1).unwrap().contains("continuation-token=t1"));
}

#[test]
fn an_absent_store_ends_in_bounded_time_without_showing_a_signature() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let s3 = S3::new(&format!("http://{address}"), "key", Secret::new(SECRET.to_owned()), "us-east-1").unwrap();
    let start = Instant::now();
    let error = s3.with_patience(Duration::from_millis(700)).get("data", "k").unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(error.kind(), Kind::Unreachable);
    let text = format!("{error} {error:?}");
    assert!(text.contains(&address.to_string()) && !text.contains("X-Amz") && !text.contains(SECRET), "{text}");
}

#[test]
fn names_that_would_reach_another_object_are_refused() {
    let s3 = S3::new("http://127.0.0.1:1", "key", Secret::new(SECRET.to_owned()), "us-east-1").unwrap();
    for key in ["", "../other/k", "a/./b", "a/.."] {
        assert_eq!(s3.get("data", key).unwrap_err().kind(), Kind::Invalid, "{key:?}");
    }
    assert_eq!(s3.get("da/ta", "k").unwrap_err().kind(), Kind::Invalid);
    assert!(S3::new("not an address", "key", Secret::new(SECRET.to_owned()), "r").is_err());
}
