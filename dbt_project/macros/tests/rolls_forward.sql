{# Each row's opening and movement give its closing, and that is the next row's opening. #}
{% test rolls_forward(model, line, period, opening, movement, closing) %}
with rows_in_order as (
    select
        {{ line | join(', ') }},
        {{ period }},
        {{ opening }} as opening,
        {{ movement }} as movement,
        {{ closing }} as closing,
        lag({{ closing }}, 1, cast(0 as decimal(38, 0))) over (
            partition by {{ line | join(', ') }} order by {{ period }}
        ) as closing_before
    from {{ model }}
)

select *
from rows_in_order
where opening + movement <> closing or opening <> closing_before
{% endtest %}
