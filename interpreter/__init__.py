"""From synthesis features to class maps: annotations, ensemble, uncertainty and data set writer."""
