"""Arguments of public calls: signatures and messages, patterns over names, and remembered constructors."""
