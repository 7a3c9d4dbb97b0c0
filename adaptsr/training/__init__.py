"""Training. In: a run and its data. Out: a plan, an adaptation and a record in the run's folder."""
