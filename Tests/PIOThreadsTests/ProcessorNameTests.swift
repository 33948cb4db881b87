import Testing

@testable import PIOThreads

struct ProcessorNameTests {
  @Test func tellsFamilyAndModelOnX86() {
    let lines = [
      "processor\t: 0", "vendor_id\t: AuthenticAMD", "cpu family\t: 25", "model\t\t: 17",
      "model name\t: AMD EPYC", "processor\t: 1", "model name\t: AMD EPYC",
    ]
    #expect(processorName(information: lines, board: nil) == "AMD EPYC (family 25, model 17)")
  }

  @Test func tellsTheBoardAndItsCoresOnARM() {
    let big = ["CPU implementer\t: 0x41", "CPU part\t: 0xd0b"]
    let small = ["CPU implementer\t: 0x41", "CPU part\t: 0xd05"]
    #expect(
      processorName(information: small + small + big, board: "Radxa ROCK 5B\0")
        == "Radxa ROCK 5B (2 × Cortex-A55 + 1 × Cortex-A76)")
    let lines = big + ["Model\t\t: Raspberry Pi 5 Model B Rev 1.0"]
    #expect(
      processorName(information: lines, board: nil)
        == "Raspberry Pi 5 Model B Rev 1.0 (1 × Cortex-A76)")
  }

  @Test func givesTheNumbersOfACoreItDoesNotKnow() {
    let lines = ["CPU implementer\t: 0x61", "CPU part\t: 0x022"]
    #expect(processorName(information: lines, board: nil) == "1 × core 0x61/0x022")
    #expect(processorName(information: [], board: nil) == "unknown processor")
    #expect(
      processorName(information: ["garbage", ":", "model name"], board: "") == "unknown processor")
  }

  @Test func thisMachineHasAName() {
    #expect(!processorName().isEmpty)
  }
}
