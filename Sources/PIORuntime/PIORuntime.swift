// PIORuntime
