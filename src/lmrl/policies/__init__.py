"""Whatever chooses actions: language models, scripted players, people. Policies are always batched."""
