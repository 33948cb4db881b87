// PIOText
