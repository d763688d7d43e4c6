"""What is made before serving: classifiers, drafts, and measured costs."""
