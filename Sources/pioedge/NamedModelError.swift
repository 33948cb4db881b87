import PIOFormat

/// What is wrong with a model file, and which file it is.
struct NamedModelError: Error, CustomStringConvertible {
  let path: String
  let error: ModelFileError

  var description: String { error.namesFile ? "\(error)" : "\(path): \(error)" }
}

func openModel(_ path: String) throws(NamedModelError) -> ModelFile {
  do throws(ModelFileError) {
    return try ModelFile(path: path)
  } catch {
    throw NamedModelError(path: path, error: error)
  }
}
