"""One module for each thing that is measured; imported only when it is measured."""
