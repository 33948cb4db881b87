import ArgumentParser
import PIORuntime

/// Which tokens are chosen from, and by which numbers.
struct SamplingDetails: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Seed of the random numbers; the same seed gives the same answer.", valueName: "n",
      visibility: .hidden))
  var seed: UInt64 = 0

  @Option(
    name: .customLong("top-k"),
    help: ArgumentHelp(
      "Only the k most likely tokens; 0: all.", valueName: "k", visibility: .hidden))
  var topK = 0

  @Option(
    name: .customLong("top-p"),
    help: ArgumentHelp(
      "Only the most likely tokens that together reach this probability.", valueName: "p",
      visibility: .hidden))
  var topP: Float = 1

  @Option(
    name: .customLong("min-p"),
    help: ArgumentHelp(
      "Only tokens at least this fraction as likely as the most likely.", valueName: "p",
      visibility: .hidden))
  var minP: Float = 0

  @Option(
    help: ArgumentHelp(
      "Above 1: tokens already seen become less likely.", valueName: "factor",
      visibility: .hidden))
  var repetitionPenalty: Float = 1

  mutating func validate() throws {
    guard topK >= 0 else { throw ValidationError("--top-k takes a whole number from 0") }
    guard topP > 0, topP <= 1 else {
      throw ValidationError("--top-p takes a number above 0, up to 1")
    }
    guard minP >= 0, minP <= 1 else { throw ValidationError("--min-p takes a number from 0 to 1") }
    guard repetitionPenalty > 0, repetitionPenalty.isFinite else {
      throw ValidationError("--repetition-penalty takes a number above 0")
    }
  }
}

/// How tokens are chosen.
struct SamplingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("0: always the most likely token; higher: more varied.", valueName: "t"))
  var temperature: Float = 0

  @OptionGroup(title: "Sampling") var details: SamplingDetails

  mutating func validate() throws {
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature takes a number from 0")
    }
  }

  var seed: UInt64 { details.seed }

  var sampling: Sampling {
    var sampling = Sampling()
    sampling.temperature = temperature
    sampling.topK = details.topK
    sampling.topP = details.topP
    sampling.minP = details.minP
    sampling.repetitionPenalty = details.repetitionPenalty
    sampling.seed = details.seed
    return sampling
  }
}
