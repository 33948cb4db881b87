// PIOConvert
