"""Coverage of the embedded partners: how many utterances of people they understand and answer correctly."""
