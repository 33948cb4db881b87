// PIOVision
