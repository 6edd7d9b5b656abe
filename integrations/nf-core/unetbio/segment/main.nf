process UNETBIO_SEGMENT {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${params.unetbio_container ?: 'unetbio:latest'}"

    input:
    tuple val(meta), path(images, stageAs: 'images/*')
    path model

    output:
    tuple val(meta), path("${prefix}/**_labels.*"), emit: labels
    tuple val(meta), path("${prefix}/summary.csv"), emit: summary
    tuple val(meta), path("${prefix}/cells.csv")  , emit: cells, optional: true
    tuple val(meta), path("${prefix}/index.html") , emit: page
    path "versions.yml"                           , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def chosen = model ?: 'nuclei'
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    unetbio segment images -o ${prefix} --model ${chosen} --workers ${task.cpus} ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        unetbio: \$(unetbio --version | sed 's/unetbio //')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}
    touch ${prefix}/image_labels.ome.tif ${prefix}/summary.csv ${prefix}/cells.csv ${prefix}/index.html

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        unetbio: \$(unetbio --version | sed 's/unetbio //')
    END_VERSIONS
    """
}
