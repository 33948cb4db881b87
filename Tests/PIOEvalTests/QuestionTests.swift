import PIOEval
import Testing

struct QuestionTests {
  @Test func readsWhatTheDemoPOPEAndTextVQAWrite() throws {
    let path = Scratch.file(
      """
      {"image": "a.png", "question": "Where?", "answer": "top left", "family": "position"}

      {"question_id": 7, "image": "b/c.jpg", "text": "Is there a dog?", "label": "No", "category": "random"}
      {"image": "a.png", "question": "What?", "answers": ["x", "y"], "other": {"deep": [1, null]}}\r
      {"image": "a.png", "question": "How many?", "answer": 3}
      """)
    let set = try QuestionSet(path: path)
    #expect(
      set.questions == [
        Question(image: "a.png", text: "Where?", family: "position", truth: .answer("top left")),
        Question(
          image: "b/c.jpg", text: "Is there a dog?", family: "random", truth: .yesOrNo(false)),
        Question(image: "a.png", text: "What?", family: "questions", truth: .answers(["x", "y"])),
        Question(image: "a.png", text: "How many?", family: "questions", truth: .answer("3")),
      ])
    #expect(set.images.map(\.image) == ["a.png", "b/c.jpg"])
    #expect(set.images.map(\.questions) == [[0, 2, 3], [1]])
    #expect(set.families == ["position", "random", "questions"])
    #expect(try QuestionSet(path: path, limit: 2).questions.count == 2)
  }

  @Test(arguments: [
    ("{", "unexpected end at byte 1"), ("[]", "no JSON object"),
    (#"{"question": "Q", "answer": "a"}"#, "no 'image'"),
    (#"{"image": "a", "answer": "a"}"#, "no 'question' (nor 'text')"),
    (#"{"image": "a", "question": "", "answer": "a"}"#, "no 'question' (nor 'text')"),
    (
      #"{"image": "a", "question": "Q"}"#,
      "one of 'answer', 'answers' and 'label' is needed"
    ),
    (
      #"{"image": "a", "question": "Q", "answer": "a", "label": "yes"}"#,
      "one of 'answer', 'answers' and 'label' is needed"
    ),
    (#"{"image": "a", "question": "Q", "label": "maybe"}"#, "'label' is neither yes nor no"),
    (#"{"image": "a", "question": "Q", "answers": []}"#, "'answers' is not what it should be"),
    (
      #"{"image": "a", "question": "Q", "answers": [1]}"#,
      "'answers' has something that is not a text"
    ),
    (
      #"{"image": "../a", "question": "Q", "answer": "a"}"#,
      "'image' must name a file inside the folder of images"
    ),
    (
      #"{"image": "/etc/a", "question": "Q", "answer": "a"}"#,
      "'image' must name a file inside the folder of images"
    ),
    (
      #"{"image": "a\u0000b", "question": "Q", "answer": "a"}"#,
      "'image' must name a file inside the folder of images"
    ),
    (#"{"image": "a", "image": "b"}"#, "duplicate key 'image' at byte 27"),
  ])
  func refusesALineThatIsNoQuestion(_ line: String, _ problem: String) {
    let good = #"{"image": "a", "question": "Q", "answer": "a"}"#
    let path = Scratch.file("\(good)\n\(line)\n")
    #expect(throws: EvalError.badLine(path: path, line: 2, problem: problem)) {
      _ = try QuestionSet(path: path)
    }
  }

  @Test func boundsLinesValuesFamiliesAndDepth() throws {
    func line(_ more: String) -> String {
      #"{"image": "a", "question": "Q", "answer": "a""# + more + "}\n"
    }
    let long = Scratch.file(line(#", "x": ""# + String(repeating: "y", count: 1 << 16) + "\""))
    #expect(throws: EvalError.lineTooLong(path: long, line: 1, maxBytes: 1 << 16)) {
      _ = try QuestionSet(path: long)
    }
    let endless = Scratch.file(String(repeating: "z", count: 1 << 20))
    #expect(throws: EvalError.lineTooLong(path: endless, line: 1, maxBytes: 1 << 16)) {
      _ = try QuestionSet(path: endless)
    }
    let many = Scratch.file(
      line(#", "x": ["# + String(repeating: "1,", count: 2000) + "1]"))
    #expect(throws: EvalError.self) { _ = try QuestionSet(path: many) }
    let deep = Scratch.file(line(#", "x": "# + String(repeating: "[", count: 30_000)))
    #expect(throws: EvalError.self) { _ = try QuestionSet(path: deep) }
    let families = Scratch.file(
      (0...QuestionSet.maxFamilies).map { line(", \"family\": \"f\($0)\"") }.joined())
    #expect(throws: EvalError.tooManyFamilies(path: families, limit: QuestionSet.maxFamilies)) {
      _ = try QuestionSet(path: families)
    }
    let empty = Scratch.file("\n \n")
    #expect(throws: EvalError.noQuestions(path: empty)) { _ = try QuestionSet(path: empty) }
    #expect(throws: EvalError.notAFile(path: "/dev/zero")) {
      _ = try QuestionSet(path: "/dev/zero")
    }
    #expect(throws: EvalError.cannotRead(path: "/nowhere", errno: 2)) {
      _ = try QuestionSet(path: "/nowhere")
    }
  }
}
