"""Choose options of every variant on the validation split. In: a profile's grid. Out: a choice for each variant and backbone."""
