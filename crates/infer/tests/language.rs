//! The language engine without its listener, on a stand-in with random weights.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::path::Path;

use dh_infer::language::{Error, Finish, LanguageModel, Message, Request, Sampling, Session, Sink, Usage};
use dh_infer::standin::Standin;
use dh_infer::{LoadOptions, standin};

/// Collects an answer, and stops wanting it after `tokens_max` tokens.
struct Collector {
    pieces: Vec<String>,
    tokens_max: usize,
}

impl Sink for Collector {
    fn wanted(&self) -> bool {
        self.pieces.len() < self.tokens_max
    }

    fn token(&mut self, text: String) {
        self.pieces.push(text);
    }
}

fn model() -> LanguageModel {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    Standin::default().write(&path).unwrap();
    LanguageModel::open(&path, LoadOptions::default()).unwrap()
}

fn ask(model: &LanguageModel, session: &mut Session, request: &Request) -> (Vec<String>, Usage) {
    let mut sink = Collector { pieces: Vec::new(), tokens_max: usize::MAX };
    let usage = session.answer(model, request, &mut sink).unwrap();
    (sink.pieces, usage)
}

fn request(model: &LanguageModel, prompt: &str, sampling: Sampling) -> Request {
    Request { prompt: model.text_prompt(prompt).unwrap(), tokens_max: 60, sampling, stops: Vec::new() }
}

const GREEDY: Sampling =
    Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, frequency_penalty: 0.0, presence_penalty: 0.0 };

#[test]
fn the_stand_in_loads_and_says_what_it_is() {
    let model = model();
    assert!(model.is_generated());
    assert_eq!(model.title(), standin::TITLE);
    assert_eq!(model.context_tokens(), 512);
}

#[test]
fn the_same_request_gives_the_same_answer_and_another_seed_another() {
    let model = model();
    let mut texts = Vec::new();
    for seed in [1, 1, 2] {
        let mut session = Session::new(&model).unwrap();
        let sampling = Sampling { seed, ..Sampling::default() };
        texts.push(ask(&model, &mut session, &request(&model, "Hello", sampling)).0.concat());
    }
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
    let greedy: Vec<String> = (0..2)
        .map(|_| ask(&model, &mut Session::new(&model).unwrap(), &request(&model, "Hello", GREEDY)).0.concat())
        .collect();
    assert_eq!(greedy[0], greedy[1]);
}

#[test]
fn what_a_session_kept_does_not_change_the_answer() {
    let model = model();
    let long = "the other hen ate an onion in the inner tent. ".repeat(6);
    let sampling = Sampling { seed: 9, ..Sampling::default() };
    let mut warm = Session::new(&model).unwrap();
    ask(&model, &mut warm, &request(&model, &long, sampling));
    for ending in ["", "and then", "something else entirely, and longer than before"] {
        let request = request(&model, &format!("{long}{ending}"), sampling);
        let (fresh_text, fresh) = ask(&model, &mut Session::new(&model).unwrap(), &request);
        let (warm_text, kept) = ask(&model, &mut warm, &request);
        assert_eq!(fresh_text, warm_text);
        assert_eq!(fresh.cached_tokens, 0);
        assert!(kept.cached_tokens >= 64 && kept.cached_tokens.is_multiple_of(64), "{}", kept.cached_tokens);
    }
    let (_, other) = ask(&model, &mut warm, &request(&model, "another beginning", sampling));
    assert_eq!(other.cached_tokens, 0);
}

#[test]
fn limits_and_counts_agree() {
    let model = model();
    let mut session = Session::new(&model).unwrap();
    for tokens_max in [1, 2, 17] {
        let request = Request { tokens_max, ..request(&model, "abc", GREEDY) };
        let (pieces, usage) = ask(&model, &mut session, &request);
        assert_eq!(usage.completion_tokens, tokens_max);
        assert_eq!(usage.finish, Finish::Length);
        assert_eq!(usage.prompt_tokens, request.prompt.len());
        // One piece per token, and one more if a character was left over.
        assert!((tokens_max..=tokens_max + 1).contains(&pieces.len()), "{}", pieces.len());
    }
    // The context ends an answer too.
    let request = Request { tokens_max: usize::MAX, ..request(&model, &"x".repeat(500), GREEDY) };
    let (_, usage) = ask(&model, &mut session, &request);
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.finish), (500, 12, Finish::Length));
}

#[test]
fn an_answer_ends_before_its_stop_string_wherever_tokens_cut_it() {
    let model = model();
    let mut session = Session::new(&model).unwrap();
    let mut checked = 0;
    for seed in 0..6 {
        let sampling = Sampling { seed, ..Sampling::default() };
        let whole = ask(&model, &mut session, &request(&model, "stop", sampling)).0.concat();
        let chars: Vec<char> = whole.chars().collect();
        for window in chars.windows(3) {
            let stop: String = window.iter().collect();
            // A replaced byte may be the beginning of a character when more text follows it.
            if stop.contains(char::REPLACEMENT_CHARACTER) {
                continue;
            }
            let stops = vec!["never comes".to_owned(), stop.clone()];
            let request = Request { stops, ..request(&model, "stop", sampling) };
            let (pieces, usage) = ask(&model, &mut session, &request);
            assert_eq!(pieces.concat(), whole[..whole.find(&stop).unwrap()], "before {stop:?}");
            assert_eq!(usage.finish, Finish::Stop);
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} stop strings were tried");
}

#[test]
fn random_bytes_come_out_as_text_and_pieces_join() {
    let model = model();
    let mut session = Session::new(&model).unwrap();
    let mut odd = 0;
    for seed in 0..20 {
        let sampling = Sampling { temperature: 2.0, seed, ..Sampling::default() };
        // Pieces are `String`, so each is whole; what is no text has been replaced.
        let text = ask(&model, &mut session, &request(&model, "ÿ", sampling)).0.concat();
        odd += usize::from(text.contains(char::REPLACEMENT_CHARACTER));
    }
    assert!(odd > 0, "no answer had a broken character: this test tests nothing");
}

#[test]
fn prompts_that_are_too_long_are_refused_with_the_numbers() {
    let model = model();
    match model.text_prompt(&"y".repeat(512)) {
        Err(Error::PromptTooLong { prompt: 512, context: 512 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(model.text_prompt(&"y".repeat(10_000_000)), Err(Error::PromptTooLong { context: 512, .. })));
    assert!(matches!(model.text_prompt(""), Err(Error::Parameter { name: "prompt", .. })));
}

#[test]
fn the_chat_template_is_used_and_may_refuse() {
    let model = model();
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let chat = model.chat_prompt(&[message("user", "hi")]).unwrap();
    let plain = model.text_prompt("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n").unwrap();
    assert_eq!(chat, plain);
    match model.chat_prompt(&[message("user", "hi"), message("system", "late")]) {
        Err(Error::Template(why)) => assert!(why.contains("system message must come first"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_wants_no_more_gets_no_more_and_the_session_lives_on() {
    let model = model();
    let mut session = Session::new(&model).unwrap();
    let request = Request { tokens_max: 400, ..request(&model, "go", GREEDY) };
    for tokens_max in [0, 1, 5] {
        let mut sink = Collector { pieces: Vec::new(), tokens_max };
        assert!(matches!(session.answer(&model, &request, &mut sink), Err(Error::Cancelled)));
        assert_eq!(sink.pieces.len(), tokens_max);
    }
    let (again, _) = ask(&model, &mut session, &request);
    let (fresh, _) = ask(&model, &mut Session::new(&model).unwrap(), &request);
    assert_eq!(again, fresh);
}

#[test]
fn a_file_cut_short_or_with_a_flipped_bit_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    Standin { blocks: 1, ..Standin::default() }.write(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.gguf");
    let open = |bytes: &[u8]| {
        std::fs::write(&damaged, bytes).unwrap();
        LanguageModel::open(&damaged, LoadOptions::default())
    };
    for length in (0..300).chain((300..whole.len() - 32).step_by(211)) {
        assert!(open(&whole[..length]).is_err(), "cut to {length} of {}", whole.len());
    }
    // The head is everything before the tensors' data: flips there change lengths, types, shapes and offsets.
    let head = whole.len() / 2;
    let mut refused = 0;
    for (round, at) in (0..400).chain((400..head).step_by(29)).enumerate() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (round % 8);
        match open(&bytes) {
            Err(_) => refused += 1,
            // A flip in a name or a merge may leave a model that runs; then it must run.
            Ok(model) => runs(&model),
        }
    }
    assert!(refused > 200, "{refused}");
}

fn runs(model: &LanguageModel) {
    let mut session = Session::new(model).unwrap();
    let Ok(prompt) = model.text_prompt("ab") else { return };
    let request = Request { prompt, tokens_max: 3, sampling: GREEDY, stops: Vec::new() };
    let mut sink = Collector { pieces: Vec::new(), tokens_max: usize::MAX };
    // Damaged weights may give no number at all, which is an error of its own.
    let outcome = session.answer(model, &request, &mut sink);
    assert!(matches!(outcome, Ok(_) | Err(Error::NotFinite)), "{outcome:?}");
}

#[test]
fn files_that_are_something_else_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(LanguageModel::open(Path::new("/no/such/file"), LoadOptions::default()), Err(Error::Read(_))));
    let path = folder.path().join("text.gguf");
    std::fs::write(&path, "not a model").unwrap();
    assert!(matches!(LanguageModel::open(&path, LoadOptions::default()), Err(Error::NotAModel { .. })));
    Standin::default().write(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"llama").unwrap();
    bytes[at..at + 5].copy_from_slice(b"mamba");
    std::fs::write(&path, bytes).unwrap();
    let error = LanguageModel::open(&path, LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("mamba"), "{error}");
}
