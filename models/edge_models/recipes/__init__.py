"""Model families behind one contract: each recipe trains on a plant's normal history and gives a bundle.

==================  ==================================================================================
``hybrid``          the universal LSTM-GNN fine-tuned (:mod:`edge_models.site`)
``linear``          vector autoregression and cross-sensor regression, closed form
``lstm-ae``         LSTM autoencoder with carried state
``transformer``     attention over time and sensors
``gdn``             graph deviation network
``pyod:NAME``       a detector of PyOD that can be written in the operators of a bundle
``ensemble``        several of these in one graph; ``ensemble:linear+gdn`` names them
==================  ==================================================================================

All but ``hybrid`` are a :class:`~edge_models.recipes.members.Member` inside a
:class:`~edge_models.recipes.frame.PlantStep`.
"""
