"""An engine behind OpenAI's HTTP interface."""
